"""Who calls: the API key of a request, what it may do, and whose videos it sees."""

from typing import NamedTuple, get_args

from fastapi import Request

from serving.api.browsers import READING, is_loopback, refuse_foreign_pages
from serving.api.errors import ApiError
from serving.config import ServeConfig
from serving.store.admission import Quota
from serving.store.keys import KeyTable, Scope

METRICS_PATH = "/metrics"


class Caller(NamedTuple):
    """Who calls; without keys everybody is the same nameless owner."""

    owner: str = ""
    scopes: tuple[str, ...] = get_args(Scope)
    quota: Quota = Quota()


def caller_of(request: Request, config: ServeConfig, keys: KeyTable) -> Caller:
    """The caller of a request.

    Raises:
        ApiError: 401 without a live key where keys are needed, 403 when the key may not do this, or a web page asks.
    """
    caller = _authenticated(request, config, keys)
    scope = _needed(request)
    if scope not in caller.scopes:
        message = f"This API key lacks the scope {scope!r}, which this request needs."
        raise ApiError(403, message, code="insufficient_scope")
    return caller


def _needed(request: Request) -> Scope:
    if request.scope["path"] == METRICS_PATH:
        return "metrics"
    return "read" if request.method in READING else "write"


def needs_keys(config: ServeConfig, keys: KeyTable) -> bool:
    """Whether requests need a key: on any address but loopback, and everywhere once the first key was made."""
    if config.keys == "auto":
        return not is_loopback(config.host) or keys.any_made()
    return config.keys == "required"


def _authenticated(request: Request, config: ServeConfig, keys: KeyTable) -> Caller:
    if not needs_keys(config, keys):
        refuse_foreign_pages(request, on_loopback=is_loopback(config.host))
        return Caller()
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    found = keys.find(secret.strip()) if scheme.lower() == "bearer" and secret else None
    if found is not None:
        return Caller(found.owner, tuple(found.scopes), Quota.model_validate(found.quota))
    given = "Incorrect API key provided." if secret else "You didn't provide an API key."
    message = f"{given} Send one as `Authorization: Bearer KEY`; `skyloom keys create NAME` makes one."
    raise ApiError(401, message, headers={"www-authenticate": "Bearer"})
