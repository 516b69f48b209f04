"""A job's row to an order for the engine: which task, with which frames. Runs in the replica."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from data.conform import conformed_video
from data.prompts import expander
from model.errors import StageError
from model.expander import Expander
from model.plan import Task
from model.sampling_options import SamplingOptions
from model.shapes import VideoShape
from model.storyboard import Card, Storyboard
from model.tasks import Animate, Blend, Edit, Extend, Feature, Generate, Image, Join, Loop
from serving.api.intake import Intake, file_digest
from serving.api.operations import card_role
from serving.config import ServeConfig
from serving.engine import Order
from serving.limits import ModelFacts, check_pixels, num_frames_of, shape_of
from serving.store.jobs import JobTable
from serving.store.storage import VideoStorage
from serving.store.tables import Job
from serving.trust.provenance import Claim, Ingredient


class Shelf(NamedTuple):
    """Where the inputs of jobs lie."""

    jobs: JobTable
    storage: VideoStorage
    intake: Intake


class Wanted(NamedTuple):
    """What a task is made from."""

    prompt: str
    shape: VideoShape
    operation: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]
    expand: Expander


def order_of(job: Job, facts: ModelFacts, config: ServeConfig, shelf: Shelf) -> Order:
    """The order of a job.

    Raises:
        LimitError: the model changed since the request, and cannot make it any more.
        StageError: an input is gone.
    """
    settings = job.settings
    operation = settings.get("operation") or {"kind": "generate"}
    shape = _shape(job, operation["kind"], facts, config)
    inputs = {role: _frames(given, shape, facts, shelf) for role, given in settings.get("inputs", {}).items()}
    expand = expander(facts.prompt_expander)
    wanted = Wanted(job.prompt, shape, operation, inputs, expand)
    options = SamplingOptions(
        num_steps=settings["num_inference_steps"],
        guidance_scale=settings["guidance_scale"],
        negative_prompt=settings["negative_prompt"],
    )
    return Order(task=TASKS[operation["kind"]](wanted), shape=shape, seed=settings["seed"], options=options)


def claim_of(job: Job, facts: ModelFacts, shelf: Shelf) -> Claim:
    """What the files of a job say of themselves."""
    settings, inputs = job.settings, job.settings.get("inputs", {})
    uploads = [file_digest(given["upload"]) for given in inputs.values() if "upload" in given]
    generation = {
        "model": facts.name,
        "model_version": facts.version,
        "weights_digest": facts.weights_digest,
        "dataset_id": facts.dataset_id,
        "operation": settings.get("operation", {}).get("kind", "generate"),
        "prompt_sha256": hashlib.sha256(job.prompt.encode()).hexdigest(),
        "seed": settings["seed"],
        "num_inference_steps": settings["num_inference_steps"],
        "guidance_scale": settings["guidance_scale"],
        "uploads": uploads,
    }
    return Claim(job.id, generation, list(_ingredients(inputs, shelf)), job.holds_uploads)


def _ingredients(inputs: Mapping[str, Mapping[str, str]], shelf: Shelf) -> Iterator[Ingredient]:
    for role, given in inputs.items():
        if "upload" in given:
            yield Ingredient(f"upload: {role}", sha256=file_digest(given["upload"]))
        elif (source := shelf.jobs.get(given["job"])) is not None:
            path = shelf.storage.path(source, "video")
            if path.is_file():
                yield Ingredient(source.id, path)


def uploads_of(job: Job, shelf: Shelf) -> Iterator[np.ndarray]:
    """The uploads that a job is made from, uint8 `T H W C` each, to be looked at before anything is made of them."""
    for given in job.settings.get("inputs", {}).values():
        if "upload" in given:
            frames = shelf.intake.frames(given["upload"])
            yield frames if frames.ndim == 4 else frames[None]


def _shape(job: Job, kind: str, facts: ModelFacts, config: ServeConfig) -> VideoShape:
    """The shape of the result, checked again: the model may have changed since the request was."""
    fitting = shape_of(facts.default_seconds, job.size, facts, max_video_px=config.pixels.in_all)
    shape = fitting._replace(num_frames=num_frames_of(job.seconds, facts.fps))
    check_pixels(shape, kind, facts, config.pixels)
    return shape


def _frames(given: Mapping[str, str], shape: VideoShape, facts: ModelFacts, shelf: Shelf) -> np.ndarray:
    """An input's frames at the size of the result."""
    if "upload" in given:
        return shelf.intake.frames(given["upload"])
    source = shelf.jobs.get(given["job"])
    path = None if source is None else shelf.storage.path(source, "video")
    if path is None or not path.is_file():
        raise StageError(f"the video {given['job']} that this one is made from was deleted meanwhile")
    assert source is not None
    return conformed_video(path, [shape], facts.fps, max_frames=num_frames_of(source.seconds, facts.fps))


def _generate(wanted: Wanted) -> Task:
    return Generate(wanted.expand(wanted.prompt), wanted.shape)


def _image(wanted: Wanted) -> Task:
    return Image(wanted.expand(wanted.prompt), wanted.shape.height, wanted.shape.width)


def _animate(wanted: Wanted) -> Task:
    return Animate(wanted.inputs["image"], wanted.prompt, wanted.shape.num_frames, wanted.expand)


def _feature(wanted: Wanted) -> Task:
    return Feature(wanted.inputs["character"], wanted.prompt, wanted.shape.num_frames, wanted.expand)


def _edit(wanted: Wanted) -> Task:
    source, strength = wanted.operation["source_prompt"] or None, wanted.operation["strength"]
    return Edit(wanted.inputs["video"], wanted.prompt, source, strength, wanted.expand)


def _extend(wanted: Wanted) -> Task:
    operation, video = wanted.operation, wanted.inputs["video"]
    return Extend(video, wanted.prompt, operation["num_added"], operation["direction"], wanted.expand)


def _loop(wanted: Wanted) -> Task:
    return Loop(wanted.expand(wanted.prompt), wanted.shape)


def _join(wanted: Wanted) -> Task:
    first, second = wanted.inputs["video"], wanted.inputs["second_video"]
    return Join(first, second, wanted.expand(wanted.prompt), wanted.operation["num_added"])


def _blend(wanted: Wanted) -> Task:
    first, second = (wanted.inputs[role][: wanted.shape.num_frames] for role in ("video", "second_video"))
    prompts = wanted.expand(wanted.prompt), wanted.expand(wanted.operation["second_prompt"])
    return Blend(first, second, prompts, wanted.operation["strength"])


def _storyboard(wanted: Wanted) -> Task:
    def clip_of(index: int) -> np.ndarray | None:
        frames = wanted.inputs.get(card_role(index))
        return frames[None] if frames is not None and frames.ndim == 3 else frames  # a picture is a clip of one frame

    first = wanted.operation["cards"][0]["prompt"]  # what a card leaves open is as there
    cards = tuple(
        Card(wanted.expand(card["prompt"], first), card["num_frames"], clip_of(index))
        for index, card in enumerate(wanted.operation["cards"])
    )
    return Storyboard(cards, wanted.shape.height, wanted.shape.width)


TASKS: Mapping[str, Callable[[Wanted], Task]] = {
    "generate": _generate,
    "image": _image,
    "animate": _animate,
    "feature": _feature,
    "edit": _edit,
    "extend": _extend,
    "loop": _loop,
    "join": _join,
    "blend": _blend,
    "storyboard": _storyboard,
}
"""The task of each kind of operation."""
