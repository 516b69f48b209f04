"""The Videos API as a FastAPI application: it writes and reads the job table and never touches a model."""

import time
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from serving.config import ServeConfig
from serving.errors import ApiError, install_handlers, invalid, not_found, not_implemented
from serving.forms import read_fields
from serving.jobs import IdempotencyConflictError, JobTable, NewJob, UnknownCursorError
from serving.limits import ModelFacts
from serving.middleware import Guard
from serving.schema import ModelCard, ModelList, Video, VideoDeleted, VideoList, new_job, parse_create
from serving.storage import MEDIA_TYPES, Variant, VideoStorage
from serving.tables import Job, ServedModel

_LONGEST_KEY = 255
_POLL_MS = (250, 10_000)
_FIRST_GUESS_S = 5.0  # how long a video takes, before the first was made

router = APIRouter()


class Backend(NamedTuple):
    """What the routes work with."""

    config: ServeConfig
    jobs: JobTable
    storage: VideoStorage


def create_app(config: ServeConfig) -> FastAPI:
    """The application; stateless, so that any number of them may serve the same table and folder."""
    # the interactive documentation pages of FastAPI load scripts from elsewhere
    app = FastAPI(title="Skyloom", docs_url=None, redoc_url=None)
    app.state.backend = Backend(config, JobTable(config.database_url), VideoStorage(config.storage))
    app.add_middleware(Guard, max_body_bytes=config.max_body_bytes)
    install_handlers(app)
    app.include_router(router)
    return app


def _backend(request: Request) -> Backend:
    return request.app.state.backend


UsesBackend = Annotated[Backend, Depends(_backend)]


@router.get("/healthz")
def health(backend: UsesBackend) -> dict[str, str | int]:
    """Says which model is served and how many jobs wait.

    Raises:
        ApiError: 503 while no replica has a model in memory.
    """
    served = _served(backend)
    if time.time() - served.seen_s > 2 * backend.config.lease_s:
        raise _loading(backend)
    return {"status": "ok", "model": served.name, "version": served.version, "queued": backend.jobs.num_waiting()}


@router.get("/v1/models")
def list_models(backend: UsesBackend) -> ModelList:
    """The served model, or an empty list while it loads."""
    served = backend.jobs.served(backend.config.model_name)
    return ModelList(data=[ModelCard.of(served)] if served else [])


@router.get("/v1/models/{model}")
def get_model(model: str, backend: UsesBackend) -> ModelCard:
    """One served model."""
    served = backend.jobs.served(backend.config.model_name)
    if served is None or served.name != model:
        raise ApiError(404, f"The model {model[:80]!r} does not exist.", code="model_not_found", param="model")
    return ModelCard.of(served)


@router.post("/v1/videos")
async def create_video(
    request: Request,
    response: Response,
    backend: UsesBackend,
    idempotency_key: Annotated[str | None, Header()] = None,
    x_stainless_retry_count: Annotated[str, Header()] = "0",
) -> Video:
    """Queues a video. A repeated request (same key, or the SDK's own retry) gets the job it already made."""
    if idempotency_key is not None and not 0 < len(idempotency_key) <= _LONGEST_KEY:
        raise invalid(f"Idempotency-Key must have 1 to {_LONGEST_KEY} characters.", param="Idempotency-Key")
    wanted = parse_create(await read_fields(request))
    served = await run_in_threadpool(_served, backend)
    new = new_job(
        wanted,
        ModelFacts.model_validate(served.facts),
        max_video_px=backend.config.max_video_px,
        idempotency_key=idempotency_key,
        is_retry=x_stainless_retry_count not in ("", "0"),
    )
    job = await run_in_threadpool(_queue, backend, new)
    await run_in_threadpool(_advise_polling, response, backend, job)
    return Video.of(job)


@router.get("/v1/videos")
def list_videos(
    backend: UsesBackend,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """A page of videos, newest first unless asked otherwise."""
    try:
        return VideoList.of(backend.jobs.list(after=after, limit=limit, order=order))
    except UnknownCursorError as error:
        raise invalid(f"after={str(error)[:80]!r} is no video of this server.", param="after") from error


# these stand before /v1/videos/{video_id}, which would otherwise take their names for ids
@router.post("/v1/videos/edits")
@router.post("/v1/videos/extensions")
@router.post("/v1/videos/characters")
@router.get("/v1/videos/characters/{character_id}")
@router.post("/v1/videos/{video_id}/remix")
def later(request: Request) -> None:
    """Answers the routes of the wire format that this server does not have yet."""
    raise not_implemented(f"{request.method} {request.url.path[:200]}")


@router.get("/v1/videos/{video_id}")
def get_video(video_id: str, response: Response, backend: UsesBackend) -> Video:
    """One video; while it is pending, a header says when to ask again."""
    job = _job(backend, video_id)
    _advise_polling(response, backend, job)
    return Video.of(job)


@router.delete("/v1/videos/{video_id}")
def delete_video(video_id: str, backend: UsesBackend) -> VideoDeleted:
    """Deletes a video and its files; one that is not finished is cancelled."""
    job = _job(backend, video_id)
    if not backend.jobs.delete(job.id):
        raise not_found(video_id)
    backend.storage.remove(job)
    return VideoDeleted(id=job.id)


@router.get("/v1/videos/{video_id}/content", response_class=FileResponse)
def get_content(video_id: str, backend: UsesBackend, variant: Variant = "video") -> FileResponse:
    """The MP4, its WebP thumbnail or its JPEG spritesheet; `Range` and `If-Range` work, the ETag is the sha256."""
    job = _job(backend, video_id)
    if job.status != "completed" or job.result is None:
        message = f"The video is {job.status}; its content exists once it is completed."
        raise ApiError(409, message, code="video_not_ready", param="video_id", headers={"x-should-retry": "false"})
    path = backend.storage.path(job, variant)
    if not path.is_file():
        message = f"The {variant} of {job.id} is no longer stored."
        raise ApiError(404, message, code="content_not_found", param="variant")
    etag = {"etag": f'"{job.result["files"][variant]["sha256"]}"'}
    return FileResponse(path, media_type=MEDIA_TYPES[variant], filename=f"{job.id}{path.suffix}", headers=etag)


def _job(backend: Backend, video_id: str) -> Job:
    job = backend.jobs.get(video_id)
    if job is None:
        raise not_found(video_id)
    return job


def _served(backend: Backend) -> ServedModel:
    served = backend.jobs.served(backend.config.model_name)
    if served is None:
        raise _loading(backend)
    return served


def _loading(backend: Backend) -> ApiError:
    message = f"The model {backend.config.model_name!r} is not loaded yet; try again in a few seconds."
    return ApiError(503, message, code="model_loading", headers={"retry-after": "5"})


def _queue(backend: Backend, new: NewJob) -> Job:
    if backend.jobs.num_waiting() >= backend.config.max_queued_jobs:
        message = f"{backend.config.max_queued_jobs} videos are waiting already; try again later."
        raise ApiError(429, message, code="queue_full", headers={"retry-after": "30"})
    try:
        return backend.jobs.create(new)[0]
    except IdempotencyConflictError as error:
        message = "This Idempotency-Key was used before, with another request."
        raise ApiError(422, message, code="idempotency_key_reused", param="Idempotency-Key") from error


def _advise_polling(response: Response, backend: Backend, job: Job) -> None:
    """The SDK keeps the first interval that it is told, so it should fit the whole wait."""
    if job.status in ("completed", "failed"):
        return
    each_s = backend.jobs.recent_duration_s() or _FIRST_GUESS_S
    wait_s = each_s * (1 + backend.jobs.num_waiting(job)) / backend.config.num_model_replicas
    lowest, highest = _POLL_MS
    response.headers["openai-poll-after-ms"] = str(int(min(max(wait_s * 100, lowest), highest)))
