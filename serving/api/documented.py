"""What the OpenAPI document says beyond what FastAPI finds by itself: request bodies, and the envelope of errors.

Bodies are read by serving/api/forms.py, since they come in three encodings; here they are described.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FILE = {"type": "string", "format": "binary"}
REPEATS = {
    "Idempotency-Key": "requests of the same key are one request",
    "X-Stainless-Retry-Count": "how often the SDK has sent this request before",
}


class ErrorFacts(BaseModel):
    """What went wrong: all four fields are always there."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every reply that is no success."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorFacts


def takes(body: type[BaseModel], *files: str, extra: type[BaseModel] | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads this body, with files beside it where the encoding has any."""
    schema = _schema(body)
    if extra is not None:
        schema["properties"] |= _schema(extra)["properties"]
    reference = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    picture = {"type": "object", "properties": {"image_url": {"type": "string"}}, "required": ["image_url"]}
    by_name = {name: picture if name == "input_reference" else reference for name in files}
    required = [*schema.get("required", ()), *(name for name in files if name != "input_reference")]
    forms = {
        "application/json": {**schema, "properties": schema["properties"] | by_name, "required": required},
        "multipart/form-data": {
            **schema,
            "properties": schema["properties"] | dict.fromkeys(files, FILE),
            "required": required,
        },
    }
    content = {kind: {"schema": _without_empty(form)} for kind, form in forms.items()}
    return {"requestBody": {"required": True, "content": content}}


def queues(body: type[BaseModel], *files: str, extra: type[BaseModel] | None = None) -> dict[str, Any]:
    """As `takes`, for a route that queues a job: it also reads how a client marks a request that it repeats.

    The headers are read without FastAPI, whose way takes a tenth of the time that a job's creation does.
    """
    repeats = [
        {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
        for name, description in REPEATS.items()
    ]
    return takes(body, *files, extra=extra) | {"parameters": repeats}


def _schema(body: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, definitions put in where they are referred to: paths inside would lead nowhere."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return filled(definitions[node["$ref"].rpartition("/")[2]])
            return {key: filled(value) for key, value in node.items()}
        return [filled(value) for value in node] if isinstance(node, list) else node

    return filled(schema)


def _without_empty(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if value not in ([], {})}


# 422 too, which FastAPI documents with a body of its own
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": "Why not.", "content": {"application/json": {"schema": _schema(ErrorBody)}}}
    for status in ("4XX", "5XX", 422)
}
