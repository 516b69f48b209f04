"""Request bodies to plain fields, whatever the encoding: JSON, multipart (what the SDK sends), urlencoded.

Nested fields come as bracket keys: `video[id]=…`, `characters[]=…`, `cards[][prompt]=…`, or as JSON in a string.
"""

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving.api.errors import ApiError, invalid

_MAX_FIELDS = 256  # a storyboard of 32 cards in bracket keys, with room
_MAX_FILES = 4
_MAX_DEPTH = 8
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a request body; multipart and urlencoded values are strings or `UploadFile`s.

    Raises:
        ApiError: 400 when the body is malformed, 415 when its encoding is another.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _parse_json(await request.body())
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        message = f"Content-Type {kind[:80]!r} is not supported; send application/json or multipart/form-data."
        raise ApiError(415, message)
    most = request.app.state.backend.config.max_body_bytes  # a picture may come as the text of a data: URL
    try:
        form = await request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=most)
    except (HTTPException, LookupError, UnicodeError) as error:
        message = error.detail if isinstance(error, HTTPException) else str(error)
        raise invalid(f"The form could not be read: {message}", param=None, code="invalid_form") from error
    return nest(_present(form.multi_items()))


def nest(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields with bracket keys as nested objects and lists.

    Raises:
        ApiError: a key is malformed, given twice, or is a value in one place and an object in another.
    """
    fields: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])] if match else []
        if not path or len(path) > _MAX_DEPTH or ("", "") in itertools.pairwise(path):
            raise invalid(f"Malformed field name {key[:80]!r}.", param=None, code="invalid_form")
        _put(fields, path, value, key)
    return fields


def _put(fields: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    """Put a value where its key says, `[]` being the next place of a list."""
    name, *rest = path
    if not rest:
        if name in fields:
            raise invalid(f"Field {key[:80]!r} is given twice.", param=key.partition("[")[0], code="invalid_form")
        fields[name] = value
    elif rest[0] == "":
        _append(_inside(fields, name, [], key), rest[1:], value, key)
    else:
        _put(_inside(fields, name, {}, key), rest, value, key)


def _append(items: list[Any], path: list[str], value: Any, key: str) -> None:
    """Another item; the field of an object goes to the last one, unless that has it already."""
    if not path:
        items.append(value)
        return
    if not items or not isinstance(items[-1], dict) or path[0] in items[-1]:
        items.append({})
    _put(items[-1], path, value, key)


def _inside(fields: dict[str, Any], name: str, empty: Any, key: str) -> Any:
    """The object or list of that name, made where it is missing."""
    inner = fields.setdefault(name, empty)
    if not isinstance(inner, type(empty)):
        raise invalid(f"Field {key[:80]!r} is given in two forms.", param=key.partition("[")[0], code="invalid_form")
    return inner


def _present(pairs: Iterable[tuple[str, str | UploadFile]]) -> list[tuple[str, str | UploadFile]]:
    # the SDK sends an empty file part when the real value is a bracket field beside it
    return [(key, value) for key, value in pairs if not (isinstance(value, UploadFile) and value.size == 0)]


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid("The request body is not valid JSON.", param=None, code="invalid_json") from error
    if not isinstance(fields, dict):
        raise invalid("The request body must be a JSON object.", param=None, code="invalid_type")
    return fields
