"""Errors as the OpenAI wire format has them: one envelope and one request id on every path.

The SDK reads `code`, `param`, `type` and the `x-request-id` header; FastAPI's own `{"detail": …}` leaves all of
them empty, so each of its handlers is replaced and whatever still slips through is caught by the middleware.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from model.errors import SkyloomError
from serving.store.admission import TooManyError
from serving.store.trouble import NO_SPACE

_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    429: "rate_limit_exceeded",
    503: "overloaded",
    507: NO_SPACE,
}
_PYDANTIC_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


class ApiError(SkyloomError, ValueError):
    """A reply other than success: what the client sees in the envelope, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "error")
        self.param = param
        self.headers = dict(headers or {})


def invalid(message: str, *, param: str | None, code: str = "invalid_value") -> ApiError:
    """A 400 that names the parameter at fault."""
    return ApiError(400, message, code=code, param=param)


def not_found(video_id: str) -> ApiError:
    """The 404 of a video that never was, or was deleted."""
    return ApiError(404, f"Video with id {video_id[:80]!r} not found.", code="not_found", param="video_id")


def envelope(status: int, message: str, *, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error reply."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def envelope_for_status(status: int) -> dict[str, Any]:
    """The envelope of a reply of which only the status is known."""
    return envelope(status, _phrase(status), code=_CODES.get(status, "server_error" if status >= 500 else "error"))


def from_validation(error: ValidationError) -> ApiError:
    """The 400 that tells the first thing wrong in a request body."""
    return _from_details(error.errors(include_url=False)[0], skip=0)


def install_handlers(app: FastAPI) -> None:
    """Makes each of FastAPI's own error replies an envelope."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(TooManyError, _on_too_many)
    app.add_exception_handler(RequestValidationError, _on_request_validation)
    app.add_exception_handler(HTTPException, _on_http_exception)


def _from_details(details: ErrorDetails | dict[str, Any], *, skip: int) -> ApiError:
    path = [str(part) for part in details["loc"][skip:]]
    param = path[0] + "".join(f"[{part}]" for part in path[1:]) if path else None
    code = _PYDANTIC_CODES.get(details["type"])
    if code == "missing_required_parameter":
        return invalid(f"Missing required parameter: '{param}'.", param=param, code=code)
    if code == "unknown_parameter":
        return invalid(f"Unknown parameter: '{param}'.", param=param, code=code)
    code = "invalid_type" if details["type"].endswith(("_type", "_parsing")) else "invalid_value"
    message = str(details["msg"]).removeprefix("Value error, ")
    about = f"Invalid value for '{param}': " if param else "Invalid request: "
    return invalid(about + message, param=param, code=code)


def _on_api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    body = envelope(error.status, error.message, code=error.code, param=error.param)
    return JSONResponse(body, status_code=error.status, headers=error.headers)


def _on_too_many(request: Request, error: Exception) -> JSONResponse:
    return _on_api_error(request, invalid(str(error), param=None, code="too_many"))


def _on_request_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # the first part of the location is where FastAPI looked: path, query, body
    return _on_api_error(request, _from_details(error.errors()[0], skip=1))


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    body = envelope_for_status(error.status_code)
    if error.status_code == 404:
        body["error"]["message"] = f"Unknown request URL: {request.method} {request.url.path[:200]}."
    elif error.detail and error.detail != _phrase(error.status_code):
        body["error"]["message"] = str(error.detail)
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase + "." if status in HTTPStatus._value2member_map_ else f"HTTP status {status}."
