"""Routes that make videos, also from videos: those of the wire format, and Skyloom's own beside them."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from model.shapes import VideoShape
from serving.api import operations
from serving.api.backend import Backend, Retry, UsesBackend, UsesRetry, advise_polling
from serving.api.documented import queues
from serving.api.forms import read_fields
from serving.api.materials import model_of, take_card, take_image, take_video
from serving.api.operations import (
    Asked,
    BlendVideos,
    EditVideo,
    ExtendVideo,
    Input,
    JoinVideos,
    LoopVideo,
    StoryboardVideo,
    Variations,
    card_role,
)
from serving.api.schema import CreateVideo, Outlook, Sampling, Video, VideoList, parse
from serving.limits import ModelFacts
from serving.store.jobs import NewJob, Page
from serving.store.tables import Job

router = APIRouter(prefix="/v1/videos")
Wanted = TypeVar("Wanted", bound=Sampling)
Plan = Callable[[Wanted, Asked], NewJob]


@router.post("", openapi_extra=queues(CreateVideo, "input_reference"))
async def create_video(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues a video. A repeated request (same key, or the SDK's own retry) gets the job it already made."""
    wanted, asked = await _creation(await read_fields(request), backend, retry)
    return await _queued(operations.create(wanted, asked), backend, response)


@router.post("/variations", openapi_extra=queues(CreateVideo, "input_reference", extra=Variations))
async def create_variations(request: Request, backend: UsesBackend, retry: UsesRetry) -> VideoList:
    """Queues `n` videos that differ in their seeds only: all of them or none."""
    fields = await read_fields(request)
    number = parse(Variations, {"n": fields.pop("n")} if "n" in fields else {}).n
    wanted, asked = await _creation(fields, backend, retry)
    jobs = await run_in_threadpool(backend.queue_all, operations.seeded(operations.create, wanted, asked, number))
    return VideoList.of(Page(jobs, has_more=False), backend.config.retention_s)


@router.post("/edits", openapi_extra=queues(EditVideo, "video"))
async def edit_video(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues a video changed by a prompt."""
    return await _from_videos(operations.edit, EditVideo, ("video",), request, response, backend, retry)


@router.post("/extensions", openapi_extra=queues(ExtendVideo, "video"))
async def extend_video(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues a video made longer; `seconds` of the reply is the whole."""
    return await _from_videos(operations.extend, ExtendVideo, ("video",), request, response, backend, retry)


@router.post("/joins", openapi_extra=queues(JoinVideos, "video", "second_video"))
async def join_videos(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues two videos with a made transition between them."""
    roles = ("video", "second_video")
    return await _from_videos(operations.join, JoinVideos, roles, request, response, backend, retry)


@router.post("/blends", openapi_extra=queues(BlendVideos, "video", "second_video"))
async def blend_videos(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues a video that turns from one into the other."""
    roles = ("video", "second_video")
    return await _from_videos(operations.blend, BlendVideos, roles, request, response, backend, retry)


@router.post("/loops", openapi_extra=queues(LoopVideo))
async def loop_video(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues a video without beginning or end."""
    return await _from_videos(operations.loop, LoopVideo, (), request, response, backend, retry)


@router.post("/storyboards", openapi_extra=queues(StoryboardVideo))
async def storyboard_video(request: Request, response: Response, backend: UsesBackend, retry: UsesRetry) -> Video:
    """Queues one video of several scenes, each from its own prompt and from its picture or clip, if any."""
    fields = await read_fields(request)
    facts = await backend.facts_soon(fields.get("model"))
    wanted, inputs = parse(StoryboardVideo, fields), dict[str, Input]()
    asked = _asked(facts, inputs, backend, retry)
    for index, card in enumerate(wanted.cards):
        given = await take_card(card, index, backend, facts, asked.shape(card.seconds, wanted.size))
        if given is not None:
            inputs[card_role(index)] = given
    return await _queued(operations.storyboard(wanted, asked), backend, response)


@router.post("/{video_id}/remix", openapi_extra=queues(EditVideo))
async def remix_video(
    video_id: str, request: Request, response: Response, backend: UsesBackend, retry: UsesRetry
) -> Video:
    """Queues a finished video changed by a prompt."""
    fields = await read_fields(request) | {"video": {"id": video_id}}
    return await _changed(operations.edit, EditVideo, ("video",), fields, response, backend, retry)


async def _from_videos(
    plan: Plan[Wanted],
    kind: type[Wanted],
    roles: tuple[str, ...],
    request: Request,
    response: Response,
    backend: Backend,
    retry: Retry,
) -> Video:
    return await _changed(plan, kind, roles, await read_fields(request), response, backend, retry)


async def _changed(
    plan: Plan[Wanted],
    kind: type[Wanted],
    roles: tuple[str, ...],
    fields: dict[str, Any],
    response: Response,
    backend: Backend,
    retry: Retry,
) -> Video:
    facts = await backend.facts_soon(await model_of(fields, roles, backend))
    videos = {role: fields.pop(role) for role in roles if role in fields}
    wanted = parse(kind, fields)
    inputs: dict[str, Input] = {}
    for role in roles:
        inputs[role] = await take_video(videos, role, backend, facts, next(iter(inputs.values()), None))
    asked = _asked(facts, inputs, backend, retry)
    return await _queued(plan(wanted, asked), backend, response)


async def _creation(fields: dict[str, Any], backend: Backend, retry: Retry) -> tuple[CreateVideo, Asked]:
    """What a request for a new video asks for, its picture or character taken in."""
    facts = await backend.facts_soon(fields.get("model"))
    image = {key: fields.pop(key) for key in ("input_reference",) if key in fields}
    wanted = parse(CreateVideo, fields)
    inputs: dict[str, Input] = {}
    asked = _asked(facts, inputs, backend, retry)
    if wanted.characters:
        found = await run_in_threadpool(backend.appearance, wanted.characters[0])
        inputs["character"] = Input(VideoShape(found.num_frames, found.height, found.width), upload=found.upload)
    if image:
        shape = asked.shape(wanted.asked_seconds(facts.fps), wanted.asked_size)
        inputs["image"] = await take_image(image, "input_reference", backend, facts, shape)
    return wanted, asked


def _asked(facts: ModelFacts, inputs: dict[str, Input], backend: Backend, retry: Retry) -> Asked:
    """What decides a job beside its request; inputs may still be put to it."""
    return Asked(facts=facts, pixels=backend.config.pixels, inputs=inputs, **retry._asdict())


async def _queued(new: NewJob, backend: Backend, response: Response) -> Video:
    def queue() -> tuple[Job, Outlook | None]:
        job = backend.queue(new)
        return job, backend.outlook(job, is_new=True)

    job, outlook = await run_in_threadpool(queue)
    advise_polling(response, outlook)
    return Video.of(job, backend.config.retention_s)  # the place in the queue costs a count: the first poll has it
