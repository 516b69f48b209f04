"""Pictures, as the OpenAI Images API has them: made while the client waits, given back in the reply, not kept."""

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from serving.api import operations
from serving.api.backend import Backend, UsesBackend
from serving.api.documented import takes
from serving.api.errors import ApiError
from serving.api.forms import read_fields
from serving.api.operations import Asked, CreateImage
from serving.api.schema import parse
from serving.store.tables import Job
from serving.store.trouble import NO_SPACE
from serving.trust.guards import MODERATION_UNAVAILABLE
from serving.trust.moderation import CODE as MODERATION_BLOCKED

router = APIRouter(prefix="/v1/images")
LOOK_EVERY_S = 0.05
_STATUSES = {MODERATION_BLOCKED: 400, MODERATION_UNAVAILABLE: 503, NO_SPACE: 507}


class ImageRequest(CreateImage):
    """The body of `POST /v1/images/generations`.

    Pictures come inline, since nothing is kept to link to, and as lossless WebP, as they were signed: another format
    would lose the signature.
    """

    n: Annotated[int, Field(ge=1, le=10)] = 1
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["webp"] = "webp"


class ImageData(BaseModel):
    """One picture."""

    b64_json: str


class Images(BaseModel):
    """The reply."""

    created: int
    data: list[ImageData]
    output_format: Literal["webp"] = "webp"
    size: str


@router.post("/generations", openapi_extra=takes(ImageRequest))
async def generate_images(request: Request, backend: UsesBackend) -> Images:
    """Makes pictures; each is a job like a video, so limits, order and content rules are the same."""
    fields = await read_fields(request)
    shown = parse(ImageRequest, fields)
    wanted = CreateImage.model_validate(shown.model_dump(include=set(CreateImage.model_fields)))
    jobs = await run_in_threadpool(_queue, wanted, shown.n, backend)
    try:
        pictures = [await _picture(job, backend) for job in jobs]
    finally:
        for job in jobs:
            await run_in_threadpool(_forget, job, backend)
    data = [ImageData(b64_json=base64.b64encode(picture).decode()) for picture in pictures]
    return Images(created=int(time.time()), data=data, size=jobs[0].size)


def _queue(wanted: CreateImage, number: int, backend: Backend) -> Sequence[Job]:
    asked = Asked(facts=backend.facts(wanted.model), pixels=backend.config.pixels)
    return backend.queue_all(operations.seeded(operations.image, wanted, asked, number))


async def _picture(job: Job, backend: Backend) -> bytes:
    """The signed WebP of a picture's job, once it is done.

    Raises:
        ApiError: it failed, or took too long.
    """
    deadline = time.monotonic() + backend.config.image_timeout_s
    while time.monotonic() < deadline:
        found = await run_in_threadpool(backend.jobs.get, job.id)
        if found is None or found.status == "failed":
            raise _failure(found)
        if found.status == "completed":
            return await run_in_threadpool(backend.storage.path(found, "thumbnail").read_bytes)
        await asyncio.sleep(LOOK_EVERY_S)
    raise ApiError(503, "The picture was not ready in time; try again.", code="timeout", headers={"retry-after": "10"})


def _failure(job: Job | None) -> ApiError:
    """What a client is told of a picture that failed, or whose job somebody cleared away."""
    if job is None:
        return ApiError(503, "The picture is gone; try again.", code="server_error", headers={"retry-after": "10"})
    status = _STATUSES.get(job.error_code or "", 500)
    # another try would cost as much and end the same, unless what failed may be back by then
    headers = {"retry-after": "10"} if status == 503 else {"x-should-retry": "false"}
    return ApiError(status, job.error_message or "The picture failed.", code=job.error_code, headers=headers)


def _forget(job: Job, backend: Backend) -> None:
    backend.jobs.delete(job.id)
    backend.storage.remove(job)
