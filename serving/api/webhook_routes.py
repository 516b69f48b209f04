"""Routes of webhook endpoints, as the SDK's `client.webhooks` speaks them."""

import time
from functools import partial
from typing import Annotated, Literal

import httpx
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from serving.api.backend import Backend, UsesBackend
from serving.api.documented import takes
from serving.api.errors import ApiError, invalid
from serving.api.forms import read_fields
from serving.api.paging import PageEnds, UsesCursor, cut
from serving.api.schema import Text, parse
from serving.store.events import ANNOUNCED, Announced, delivery
from serving.store.tables import WebhookEndpoint
from serving.trust.courier import send
from serving.trust.outgoing import ForbiddenAddressError, check_url

router = APIRouter(prefix="/v1")
TESTS_AT_ONCE = CapacityLimiter(4)
"""Tests have threads of their own: who answers slowly keeps no other request waiting."""

Name = Annotated[Text, Field(min_length=1, max_length=256)]
EventTypes = Annotated[tuple[Announced, ...], Field(min_length=1)]


class CreateEndpoint(BaseModel):
    """The body of a new endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    url: Text
    event_types: EventTypes


class UpdateEndpoint(BaseModel):
    """The body of a change: what is not given stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name | None = None
    url: Text | None = None
    event_types: EventTypes | None = None


class RotateSecret(BaseModel):
    """The body of a rotation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(BaseModel):
    """The body of a test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: Announced


class EndpointCard(BaseModel):
    """An endpoint as clients see it; its secret is there only in the reply that made it."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int | None
    signing_secret_hint: str
    signing_secret: str | None = None

    @classmethod
    def of(cls, endpoint: WebhookEndpoint, *, shows_secret: bool = False) -> "EndpointCard":
        """The row as clients see it."""
        return cls(
            id=endpoint.id,
            name=endpoint.name,
            url=endpoint.url,
            event_types=endpoint.event_types,
            created_at=int(endpoint.created_s),
            updated_at=None if endpoint.updated_s is None else int(endpoint.updated_s),
            signing_secret_hint=f"whsec_...{endpoint.secret[-5:]}",
            signing_secret=endpoint.secret if shows_secret else None,
        )


class EndpointList(PageEnds):
    """One page of endpoints."""

    object: Literal["list"] = "list"
    data: list[EndpointCard]


class EndpointDeleted(BaseModel):
    """The reply to a deletion."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EndpointTested(BaseModel):
    """What an endpoint answered to a sample event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    """The events that endpoints can be told of."""

    object: Literal["list"] = "list"
    data: tuple[str, ...] = ANNOUNCED


@router.get("/webhook_event_types")
def list_event_types(backend: UsesBackend) -> EventTypeList:
    """What endpoints can be told of."""
    del backend
    return EventTypeList()


@router.post("/webhook_endpoints", openapi_extra=takes(CreateEndpoint))
async def create_endpoint(request: Request, backend: UsesBackend) -> EndpointCard:
    """Makes an endpoint; its secret is in this reply and in no later one."""
    wanted = parse(CreateEndpoint, await read_fields(request))
    _check_address(wanted.url, backend)
    made = await run_in_threadpool(lambda: backend.webhooks.create(backend.caller.owner, **wanted.model_dump()))
    return EndpointCard.of(made, shows_secret=True)


@router.get("/webhook_endpoints")
def list_endpoints(backend: UsesBackend, cursor: UsesCursor) -> EndpointList:
    """The caller's endpoints, the newest first."""
    page, ends = cut(backend.webhooks.list(backend.caller.owner), cursor)
    return EndpointList(data=[EndpointCard.of(endpoint) for endpoint in page], **dict(ends))


@router.get("/webhook_endpoints/{endpoint_id}")
def get_endpoint(endpoint_id: str, backend: UsesBackend) -> EndpointCard:
    """One endpoint."""
    return EndpointCard.of(_endpoint(endpoint_id, backend))


@router.post("/webhook_endpoints/{endpoint_id}", openapi_extra=takes(UpdateEndpoint))
async def update_endpoint(endpoint_id: str, request: Request, backend: UsesBackend) -> EndpointCard:
    """Changes an endpoint."""
    changes = parse(UpdateEndpoint, await read_fields(request)).model_dump(exclude_none=True)
    if "url" in changes:
        _check_address(changes["url"], backend)
    if "event_types" in changes:
        changes["event_types"] = list(changes["event_types"])
    endpoint = await run_in_threadpool(_endpoint, endpoint_id, backend)
    return EndpointCard.of(
        _still(await run_in_threadpool(lambda: backend.webhooks.update(endpoint, **changes)), endpoint_id)
    )


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_endpoint(endpoint_id: str, backend: UsesBackend) -> EndpointDeleted:
    """Forgets an endpoint."""
    backend.webhooks.delete(_endpoint(endpoint_id, backend))
    return EndpointDeleted(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret", openapi_extra=takes(RotateSecret))
async def rotate_secret(endpoint_id: str, request: Request, backend: UsesBackend) -> EndpointCard:
    """Gives an endpoint a new secret, which is in this reply only."""
    fields = await read_fields(request) if await request.body() else {}
    keep_old = parse(RotateSecret, fields).keep_old_secret_active_for_24_hours
    endpoint = await run_in_threadpool(_endpoint, endpoint_id, backend)
    rotated = await run_in_threadpool(lambda: backend.webhooks.rotate(endpoint, keep_old=keep_old))
    return EndpointCard.of(_still(rotated, endpoint_id), shows_secret=True)


@router.post("/webhook_endpoints/{endpoint_id}/test", openapi_extra=takes(TestEndpoint))
async def test_endpoint(endpoint_id: str, request: Request, backend: UsesBackend) -> EndpointTested:
    """Sends a sample event now, once, and says what the endpoint answered."""
    kind = parse(TestEndpoint, await read_fields(request)).event_type
    endpoint = await run_in_threadpool(_endpoint, endpoint_id, backend)
    now = time.time()
    sample = delivery(endpoint, kind, "video_test", now)
    try:
        call = partial(send, endpoint, sample, backend.config, now)
        status = await to_thread.run_sync(call, limiter=TESTS_AT_ONCE)
    except (httpx.HTTPError, ForbiddenAddressError) as error:
        raise ApiError(400, "The endpoint did not answer.", code="endpoint_unreachable", param="url") from error
    return EndpointTested(webhook_endpoint_id=endpoint.id, event_type=kind, status_code=status)


def _endpoint(endpoint_id: str, backend: Backend) -> WebhookEndpoint:
    return _still(backend.webhooks.get(endpoint_id, backend.caller.owner), endpoint_id)


def _still(found: WebhookEndpoint | None, endpoint_id: str) -> WebhookEndpoint:
    """The endpoint, if there is one still."""
    if found is None:
        message = f"Webhook endpoint with id {endpoint_id[:80]!r} not found."
        raise ApiError(404, message, code="not_found", param="webhook_endpoint_id")
    return found


def _check_address(url: str, backend: Backend) -> None:
    try:
        check_url(url, backend.config.webhook_hosts)
    except ForbiddenAddressError as error:
        raise invalid(f"Invalid value for 'url': {error}", param="url") from error
