"""The Videos API as a FastAPI application: it writes and reads the job table and never touches a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Response
from starlette.responses import FileResponse, PlainTextResponse

from serving.api import character_routes, event_routes, image_routes, metrics, video_routes, webhook_routes
from serving.api.backend import Backend, OpenBackend, UsesBackend, advise_polling, is_id
from serving.api.documented import ERRORS
from serving.api.errors import ApiError, install_handlers, invalid, not_found
from serving.api.middleware import Guard
from serving.api.schema import ModelCard, ModelList, Video, VideoDeleted, VideoList
from serving.config import ServeConfig
from serving.store.janitor import Janitor
from serving.store.jobs import UnknownCursorError
from serving.store.storage import MEDIA_TYPES, Variant
from serving.ticker import Ticker
from serving.tracing import send_spans
from serving.trust.certificates import identity_of
from serving.trust.courier import Courier

router = APIRouter()
COURIER_THREADS = 4  # so many owners can be told of something at once


def create_app(config: ServeConfig) -> FastAPI:
    """The application; stateless, so that any number of them may serve the same table and folder."""
    # the interactive documentation pages of FastAPI load scripts from elsewhere
    app = FastAPI(title="Skyloom", docs_url=None, redoc_url=None, lifespan=_background, responses=ERRORS)
    app.state.backend = Backend.of(config)
    send_spans(config, "api")
    app.add_middleware(Guard, max_body_bytes=config.max_body_bytes, body_timeout_s=config.body_timeout_s)
    install_handlers(app)
    # characters first: /v1/videos/{video_id} would take their names for ids
    for routes in (character_routes, video_routes, event_routes, image_routes, webhook_routes, metrics):
        app.include_router(routes.router)
    app.include_router(router)
    return app


@asynccontextmanager
async def _background(app: FastAPI) -> AsyncIterator[None]:
    """While the application runs, what has expired is cleared away, and webhooks go out where any are allowed."""
    backend: Backend = app.state.backend
    config, database = backend.config, backend.jobs.database
    tickers = [Ticker(Janitor(config, database).tick, config.sweep_every_s)]
    if config.webhook_hosts:
        courier = Courier(config, database)
        tickers += [Ticker(courier.run_one, config.webhook_poll_s) for _ in range(COURIER_THREADS)]
    for ticker in tickers:
        ticker.start()
    yield
    for ticker in tickers:
        ticker.stop()


@router.get("/healthz")
def health(backend: OpenBackend) -> dict[str, str | int]:
    """Says which model is served and how many jobs wait.

    Raises:
        ApiError: 503 while no replica has a model in memory.
    """
    served = backend.alive()
    return {"status": "ok", "model": served.name, "version": served.version, "queued": backend.jobs.num_waiting()}


@router.get("/v1/provenance/authority", response_class=PlainTextResponse)
def get_authority(backend: UsesBackend) -> PlainTextResponse:
    """The root certificate (PEM) that vouches for what this server signs."""
    return PlainTextResponse(identity_of(backend.config).authority)


@router.get("/v1/models")
def list_models(backend: UsesBackend) -> ModelList:
    """The served models that have loaded, each with those of its registered versions that can be served."""
    return ModelList(data=[card for name in backend.config.model_names for card in _cards(name, backend)])


@router.get("/v1/models/{model}")
def get_model(model: str, backend: UsesBackend) -> ModelCard:
    """One served model by its name, or a version of it by `NAME@VERSION` or `NAME@ALIAS`."""
    named, version = backend.config.named(model), backend.version(model)
    wanted = version.id if version else model
    found = next((card for card in _cards(named[0], backend) if card.id == wanted), None) if named else None
    if found is None:
        raise ApiError(404, f"The model {model[:80]!r} does not exist.", code="model_not_found", param="model")
    return found


def _cards(name: str, backend: Backend) -> list[ModelCard]:
    return ModelCard.all_of(backend.served_models.get(name), backend.served_models.versions(name))


@router.get("/v1/videos")
def list_videos(
    backend: UsesBackend,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """A page of videos, newest first unless asked otherwise."""
    if after is not None and not is_id(after):
        raise _unknown_cursor(after)
    try:
        page = backend.jobs.list(backend.caller.owner, after=after, limit=limit, order=order)
    except UnknownCursorError as error:
        raise _unknown_cursor(str(error)) from error
    return VideoList.of(page, backend.config.retention_s)


def _unknown_cursor(after: str) -> ApiError:
    return invalid(f"after={after[:80]!r} is no video of this server.", param="after")


@router.get("/v1/videos/{video_id}")
def get_video(video_id: str, response: Response, backend: UsesBackend) -> Video:
    """One video; while it is pending, a header says when to ask again."""
    job = backend.job(video_id)
    outlook = backend.outlook(job)
    advise_polling(response, outlook)
    return Video.of(job, backend.config.retention_s, outlook)


@router.delete("/v1/videos/{video_id}")
def delete_video(video_id: str, backend: UsesBackend) -> VideoDeleted:
    """Deletes a video and its files; one that is not finished is cancelled."""
    job = backend.job(video_id)
    if not backend.jobs.delete(job.id):
        raise not_found(video_id)
    backend.storage.remove(job)
    return VideoDeleted(id=job.id)


@router.get("/v1/videos/{video_id}/content", response_class=FileResponse)
def get_content(video_id: str, backend: UsesBackend, variant: Variant = "video") -> FileResponse:
    """The MP4, its WebP thumbnail or its JPEG spritesheet; `Range` and `If-Range` work, the ETag is the sha256."""
    job = backend.job(video_id)
    if job.status != "completed" or job.result is None:
        message = f"The video is {job.status}; its content exists once it is completed."
        raise ApiError(409, message, code="video_not_ready", param="video_id", headers={"x-should-retry": "false"})
    path = backend.storage.path(job, variant)
    if not path.is_file():
        message = f"The {variant} of {job.id} is no longer stored."
        raise ApiError(404, message, code="content_not_found", param="variant")
    etag = {"etag": f'"{job.result["files"][variant]["sha256"]}"'}
    return FileResponse(path, media_type=MEDIA_TYPES[variant], filename=f"{job.id}{path.suffix}", headers=etag)
