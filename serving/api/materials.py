"""The videos and pictures that a request names: an upload, a `data:` URL, or the id of a finished video."""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from anyio import CapacityLimiter
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from model.shapes import VideoShape
from serving.api.backend import Backend
from serving.api.errors import ApiError, invalid
from serving.api.intake import Kind
from serving.api.operations import Input, Scene
from serving.limits import ModelFacts, num_frames_of
from serving.store.tables import Job

DATA_URL = "data:"
UPLOADS_AT_ONCE = CapacityLimiter(2)
"""Uploads are read and decoded one after the other; those that wait hold no thread, and no copy of their file."""


async def model_of(fields: Mapping[str, Any], roles: Sequence[str], backend: Backend) -> object:
    """The model that a request names, else the one that made the first video that it names, while that is served."""
    named, given = fields.get("model"), next((fields[role] for role in roles if role in fields), None)
    if named is not None or not isinstance(given, dict) or not isinstance(given.get("id"), str):
        return named
    made_by = (await run_in_threadpool(backend.job, given["id"])).model
    return made_by if await run_in_threadpool(backend.serves, made_by) else None


async def take_video(
    fields: dict[str, Any], name: str, backend: Backend, facts: ModelFacts, like: Input | None = None
) -> Input:
    """The video that a field names, taken out of the fields; an upload is brought to the size of `like`.

    Raises:
        ApiError: 400 when the field is missing or is no video, 404 and 409 when it names none that is finished.
    """
    given = _given(fields, name)
    if isinstance(given, UploadFile) or "video_url" in given:
        shapes = [like.shape] if like else [VideoShape.parse(bucket) for bucket in facts.trained_buckets]
        return await _uploaded(given, "video", name, backend, facts, shapes)
    return _finished(await run_in_threadpool(backend.job, _id_of(given, name)), facts, name)


async def take_image(
    fields: dict[str, Any], name: str, backend: Backend, facts: ModelFacts, shape: VideoShape
) -> Input:
    """The picture that a field names, taken out of the fields and brought to the size of the video.

    Raises:
        ApiError: 400 when it is no picture, or is said by an address that would have to be fetched.
    """
    return await _uploaded(_given(fields, name), "image", name, backend, facts, [shape])


async def take_card(card: Scene, index: int, backend: Backend, facts: ModelFacts, shape: VideoShape) -> Input | None:
    """What a card of a storyboard begins with, brought to the size of the video; None where it begins with nothing.

    Raises:
        ApiError: as `take_image` and `take_video` do.
    """
    if card.image is not None:
        name = f"cards[{index}][image]"
        return await take_image({name: card.image}, name, backend, facts, shape)
    if card.video is not None:
        name = f"cards[{index}][video]"
        return await take_video({name: card.video}, name, backend, facts, Input(shape))
    return None


async def _uploaded(
    given: UploadFile | Mapping[str, Any],
    kind: Kind,
    name: str,
    backend: Backend,
    facts: ModelFacts,
    shapes: list[VideoShape],
) -> Input:
    most = backend.config.max_video_px // max(shape.height * shape.width for shape in shapes)
    take = partial(backend.intake.take, fps=facts.fps, max_frames=most, param=name, owner=backend.caller.owner)
    async with UPLOADS_AT_ONCE:
        content = await _content(given, f"{kind}_url", name)
        material = await run_in_threadpool(take, content, kind, shapes)
    return Input(shape=material.shape, upload=material.name)


def _id_of(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given.get("id"), str):
        message = f"'{name}' must be a file or an object with the 'id' of a finished video."
        raise invalid(message, param=f"{name}[id]", code="missing_required_parameter")
    return given["id"]


def _finished(job: Job, facts: ModelFacts, name: str) -> Input:
    if job.status != "completed":
        message = f"The video {job.id} is {job.status}; it can be used once it is completed."
        raise ApiError(409, message, code="video_not_ready", param=name, headers={"x-should-retry": "false"})
    width, height = (int(side) for side in job.size.split("x"))
    num_frames = num_frames_of(job.seconds, facts.fps)
    shape = VideoShape(num_frames, height, width)
    return Input(shape, job=job.id, prompt=job.prompt, holds_uploads=job.holds_uploads)


def _given(fields: dict[str, Any], name: str) -> UploadFile | Mapping[str, Any]:
    if name not in fields:
        raise invalid(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    given = fields.pop(name)
    if isinstance(given, str) and given.startswith("{"):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise invalid(f"'{name}' is not valid JSON.", param=name, code="invalid_json") from error
    if isinstance(given, UploadFile | dict):
        return given
    kind = {str: "a string", list: "an array"}.get(type(given), "another type")
    message = f"Invalid type for '{name}': expected a file, but got {kind} instead."
    raise invalid(message, param=name, code="invalid_type")


async def _content(given: UploadFile | Mapping[str, Any], key: str, name: str) -> bytes:
    return await given.read() if isinstance(given, UploadFile) else _from_data_url(given.get(key), name)


def _from_data_url(address: Any, name: str) -> bytes:
    if not isinstance(address, str) or not address.startswith(DATA_URL):
        message = f"'{name}' must be a file or a data: URL; this server fetches no addresses and keeps no files."
        raise invalid(message, param=name, code="unsupported_parameter")
    head, _, body = address.partition(",")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
    except ValueError as error:  # base64's own error is one; letters beyond ASCII give a plain one
        raise invalid(f"'{name}' holds broken base64.", param=name) from error
