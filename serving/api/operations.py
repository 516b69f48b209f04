"""What can be asked of the model over HTTP: each request checked and turned into a job that repeats on any attempt.

A job's `settings` hold, beside the sampling, `operation` (what is to be done) and `inputs` (with which videos and
pictures); serving/orders.py reads them in the replica.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from model.config import digest_of
from model.sampling_options import CONTINUED_GUIDANCE_SCALE
from model.shapes import VideoShape
from serving.api.errors import invalid
from serving.api.schema import CreateVideo, Listed, NewShape, Prompt, Sampling, Seconds, Text, check_rate, settings_of
from serving.limits import LimitError, ModelFacts, PixelLimits, check_pixels, seconds_text, shape_of
from serving.store.jobs import NewJob

Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Direction = Literal["forward", "backward"]


class EditVideo(Sampling):
    """The body of `edits` and `remix`: what the video should show; where it is known what it shows, the difference."""

    prompt: Prompt
    source_prompt: Text | None = None
    strength: Strength | None = None


class ExtendVideo(Sampling):
    """The body of `extensions`."""

    prompt: Prompt
    seconds: Seconds
    direction: Direction = "forward"


class LoopVideo(NewShape):
    """The body of `loops`."""

    prompt: Prompt


class JoinVideos(Sampling):
    """The body of `joins`: `seconds` is the length of the transition."""

    prompt: Prompt
    seconds: Seconds


class BlendVideos(Sampling):
    """The body of `blends`: what the first and the second video show."""

    prompt: Prompt
    second_prompt: Prompt
    strength: Strength = 0.7


class Picture(BaseModel):
    """A picture in the text of a request: a `data:` URL, for this server fetches no addresses."""

    image_url: str


class Clip(BaseModel):
    """A video in the text of a request: the id of a finished one, or a `data:` URL."""

    id: str | None = None
    video_url: str | None = None


class Scene(BaseModel):
    """One card of a storyboard, and the picture or the clip that it begins with: as below, or files of a form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt
    seconds: Seconds
    image: Annotated[Any, Field(exclude=True), WithJsonSchema(Picture.model_json_schema())] = None
    video: Annotated[Any, Field(exclude=True), WithJsonSchema(Clip.model_json_schema())] = None

    @model_validator(mode="after")
    def _begins_once(self) -> Self:
        if self.image is not None and self.video is not None:
            raise ValueError("give an image or a video, not both")
        return self


class StoryboardVideo(Sampling):
    """The body of `storyboards`."""

    cards: Annotated[tuple[Scene, ...], Field(min_length=1, max_length=32), Listed]
    size: Text | None = None


class Variations(BaseModel):
    """How many videos of one request; beside it stand the fields of a new video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: Annotated[int, Field(ge=1, le=16)] = 4


class CreateImage(Sampling):
    """The body of `images/generations`, as far as it is about the picture."""

    prompt: Prompt
    size: Text | None = None


@dataclass(frozen=True)
class Input:
    """A video or picture that a job works on: a finished job, or an upload."""

    shape: VideoShape
    job: str | None = None
    upload: str | None = None
    prompt: str = ""
    holds_uploads: bool = False

    @property
    def size(self) -> str:
        """As the wire has it."""
        return f"{self.shape.width}x{self.shape.height}"

    @property
    def reference(self) -> dict[str, Any]:
        """What the job keeps of it."""
        return {"job": self.job} if self.job else {"upload": self.upload}


def _is_from_outside(given: Input) -> bool:
    return given.holds_uploads or given.upload is not None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that decides a job: the request, the model's facts, the inputs by their role, and who asks."""

    facts: ModelFacts
    pixels: PixelLimits
    inputs: Mapping[str, Input] = field(default_factory=dict)
    idempotency_key: str | None = None
    is_retry: bool = False

    def shape(self, seconds: str | None, size: str | None) -> VideoShape:
        """The shape of a new video.

        Raises:
            ApiError: 400 when the model cannot make it, with the nearest that it can.
        """
        facts = self.facts
        try:
            return shape_of(
                seconds or facts.default_seconds, size or facts.default_size, facts, max_video_px=self.pixels.in_all
            )
        except LimitError as error:
            raise invalid(str(error), param=error.param) from error

    def job(self, request: Sampling, prompt: str, shape: VideoShape, kind: str, **details: Any) -> NewJob:
        """The job of a request whose result has this shape."""
        check_rate(request, self.facts)
        try:
            check_pixels(shape, kind, self.facts, self.pixels)
        except LimitError as error:
            raise invalid(str(error), param=error.param) from error
        inputs = {role: given.reference for role, given in self.inputs.items()}
        remixed = next((given.job for given in self.inputs.values() if given.job), None)
        operation = {"kind": kind, **details}
        usual = CONTINUED_GUIDANCE_SCALE if kind in ("extend", "join") else self.facts.guidance_scale
        settings = settings_of(request, self.facts, usual)
        is_batchable = kind == "generate" and shape.num_frames <= self.facts.window_frames
        alike = [self.facts.name, list(shape), *(value for name, value in sorted(settings.items()) if name != "seed")]
        return NewJob(
            model=self.facts.name,
            prompt=prompt,
            seconds=seconds_text(shape.num_frames / self.facts.fps),
            size=f"{shape.width}x{shape.height}",
            settings=settings
            | {"operation": operation, "inputs": inputs}
            | ({"remixed_from_video_id": remixed} if remixed else {})
            | ({"holds_uploads": True} if any(map(_is_from_outside, self.inputs.values())) else {}),
            batch_key=digest_of(alike) if is_batchable else "",
            fingerprint=digest_of([request.model_dump(), operation, inputs]),
            idempotency_key=self.idempotency_key,
            is_retry=self.is_retry,
        )


def create(request: CreateVideo, asked: Asked) -> NewJob:
    """A video from a prompt, from a picture that it begins with, or with a character."""
    if {"image", "character"} <= asked.inputs.keys():
        raise invalid("Give a picture or a character, not both.", param="characters")
    character = asked.inputs.get("character")
    size = request.asked_size or (character.size if character else None)
    if character and size != character.size:
        raise invalid(f"size={size!r} is not that of the character, {character.size!r}.", param="size")
    kind = "animate" if "image" in asked.inputs else "feature" if character else "generate"
    return asked.job(request, request.prompt, asked.shape(request.asked_seconds(asked.facts.fps), size), kind)


Asking = TypeVar("Asking", bound=Sampling)


def seeded(plan: Callable[[Asking, Asked], NewJob], request: Asking, asked: Asked, number: int) -> list[NewJob]:
    """The same job `number` times, each with a seed and an idempotency key of its own."""
    first = plan(request, asked)
    made = []
    for index in range(number):
        new = plan(request.model_copy(update={"seed": (first.settings["seed"] + index) % 2**63}), asked)
        # a retry without key must find the jobs whatever seeds were drawn for them
        fingerprint = digest_of([first.fingerprint, number, index])
        key = None if asked.idempotency_key is None else digest_of([asked.idempotency_key, index])
        made.append(replace(new, fingerprint=fingerprint, idempotency_key=key))
    return made


def image(request: CreateImage, asked: Asked) -> NewJob:
    """One picture."""
    shape = asked.shape(None, request.size)._replace(num_frames=1)
    return asked.job(request, request.prompt, shape, "image")


def edit(request: EditVideo, asked: Asked) -> NewJob:
    """A video changed by a prompt; what a job's own video shows is known."""
    video = asked.inputs["video"]
    source = request.source_prompt or video.prompt or None
    return asked.job(request, request.prompt, video.shape, "edit", source_prompt=source, strength=request.strength)


def extend(request: ExtendVideo, asked: Asked) -> NewJob:
    """A video made longer at either end."""
    video = asked.inputs["video"]
    added = asked.shape(request.seconds, video.size).num_frames
    shape = video.shape._replace(num_frames=video.shape.num_frames + added)
    return asked.job(request, request.prompt, shape, "extend", direction=request.direction, num_added=added)


def loop(request: LoopVideo, asked: Asked) -> NewJob:
    """A video whose end leads into its beginning."""
    shape = asked.shape(request.asked_seconds(asked.facts.fps), request.asked_size)
    return asked.job(request, request.prompt, shape, "loop")


def join(request: JoinVideos, asked: Asked) -> NewJob:
    """Two videos with a made transition between them."""
    first, second = asked.inputs["video"].shape, asked.inputs["second_video"].shape
    added = asked.shape(request.seconds, asked.inputs["video"].size).num_frames
    shape = first._replace(num_frames=first.num_frames + added + second.num_frames)
    return asked.job(request, request.prompt, shape, "join", num_added=added)


def blend(request: BlendVideos, asked: Asked) -> NewJob:
    """One video that turns into another; the longer one is cut to the shorter."""
    first, second = asked.inputs["video"].shape, asked.inputs["second_video"].shape
    shape = first._replace(num_frames=min(first.num_frames, second.num_frames))
    kept = 2 * asked.facts.frame_step
    if shape.num_frames <= kept:
        message = f"Videos of {shape.num_frames} frames are too short to blend; give more than {kept} frames."
        raise invalid(message, param="video")
    details = {"second_prompt": request.second_prompt, "strength": request.strength}
    return asked.job(request, request.prompt, shape, "blend", **details)


def card_role(index: int) -> str:
    """Under which name a job keeps the picture or clip of a card."""
    return f"card-{index}"


def storyboard(request: StoryboardVideo, asked: Asked) -> NewJob:
    """Scenes one after the other, each at least as long as the clip that it begins with."""
    shapes = [asked.shape(card.seconds, request.size) for card in request.cards]
    for index, shape in enumerate(shapes):
        given = asked.inputs.get(card_role(index))
        if given is not None and given.shape.num_frames > shape.num_frames:
            least = seconds_text(given.shape.num_frames / asked.facts.fps)
            message = f"The clip of cards[{index}] lasts {least} seconds, longer than its scene."
            raise invalid(message, param=f"cards[{index}][seconds]")
    cards = [
        {"prompt": card.prompt, "num_frames": shape.num_frames}
        for card, shape in zip(request.cards, shapes, strict=True)
    ]
    shape = shapes[0]._replace(num_frames=sum(shape.num_frames for shape in shapes))
    prompt = "; ".join(card.prompt for card in request.cards)
    return asked.job(request, prompt, shape, "storyboard", cards=cards)
