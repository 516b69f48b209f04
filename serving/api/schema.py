"""The objects of the OpenAI Videos wire format, and requests parsed into them."""

import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serving.api.errors import from_validation, invalid
from serving.limits import ModelFacts, seconds_text
from serving.store.jobs import Page
from serving.store.tables import Job, JobStatus, ModelVersion, ServedModel


def _without_nul(value: str) -> str:
    if "\0" in value:  # PostgreSQL cannot store it
        raise ValueError("the text holds a NUL character")
    return value


def _number_as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return f"{value:.6g}" if is_number else value
    except OverflowError as error:  # JSON bounds no integer
        raise ValueError("the number is too large") from error


def _as_list(value: Any) -> Any:
    """A list that a form had to say as JSON in a string, or by numbered keys."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error
    if isinstance(value, dict) and value and all(len(key) <= _LONGEST_INDEX and key.isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


_LONGEST_TEXT, _LONGEST_INDEX = 4096, 4
Listed = BeforeValidator(_as_list)
Text = Annotated[str, Field(max_length=_LONGEST_TEXT), AfterValidator(_without_nul)]
Prompt = Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT), AfterValidator(_without_nul)]


Seconds = Annotated[Text, BeforeValidator(_number_as_text)]


class Sampling(BaseModel):
    """What every request for a video may say about how it is made; all of it reaches us through `extra_body`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Text | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] | None = None
    negative_prompt: Text = ""
    fps: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)] | None = None


class NewShape(Sampling):
    """How long and how large a new video is: in OpenAI's words, or in frames and pixels as other servers take them."""

    seconds: Seconds | None = None
    size: Text | None = None
    num_frames: Annotated[int, Field(ge=1, le=100_000)] | None = None
    width: Annotated[int, Field(ge=1, le=99_999)] | None = None
    height: Annotated[int, Field(ge=1, le=99_999)] | None = None

    @model_validator(mode="after")
    def _says_each_once(self) -> Self:
        if self.seconds is not None and self.num_frames is not None:
            raise ValueError("give seconds or num_frames, not both")
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height together")
        if self.size is not None and self.width is not None:
            raise ValueError("give size, or width and height, not both")
        return self

    @property
    def asked_size(self) -> str | None:
        """The size as `WIDTHxHEIGHT`, if any is asked for."""
        return self.size if self.width is None else f"{self.width}x{self.height}"

    def asked_seconds(self, fps: float) -> str | None:
        """The duration, if any is asked for."""
        return self.seconds if self.num_frames is None else seconds_text(self.num_frames / fps)


class CreateVideo(NewShape):
    """The body of `POST /v1/videos`; an `input_reference` is taken out of it before."""

    prompt: Prompt
    characters: Annotated[tuple[Text, ...], Field(max_length=1), Listed] = ()


class VideoError(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class Outlook(NamedTuple):
    """How many videos wait before one, and the seconds until that one should be done, once any was made."""

    num_before: int
    wait_s: float | None


class Video(BaseModel):
    """A video job as clients see it; the fields after `size` are Skyloom's own."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: JobStatus
    progress: int
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    error: VideoError | None = None
    prompt: str | None = None
    remixed_from_video_id: str | None = None
    seconds: str
    size: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str
    fps: float
    model_version: str | None = None
    weights_digest: str | None = None
    queue_position: Annotated[int | None, Field(description="videos to be begun before this one; null once begun")] = (
        None
    )
    wait_s: Annotated[float | None, Field(description="seconds until it is done, as far as the last ones tell")] = None

    @classmethod
    def of(cls, job: Job, retention_s: float | None = None, outlook: "Outlook | None" = None) -> "Video":
        """The job as clients see it; once finished it is kept for `retention_s`."""
        result = job.result or {}
        expires = None if job.completed_s is None or retention_s is None else int(job.completed_s + retention_s)
        error = VideoError(code=job.error_code, message=job.error_message or "") if job.error_code else None
        return cls.model_validate(
            {
                "id": job.id,
                "model": job.model,
                "status": job.status,
                "progress": job.progress,
                "created_at": int(job.created_s),
                "completed_at": None if job.completed_s is None else int(job.completed_s),
                "expires_at": expires,
                "error": error,
                "prompt": job.prompt,
                "seconds": job.seconds,
                "size": job.size,
                "model_version": result.get("model_version"),
                "weights_digest": result.get("weights_digest"),
                "queue_position": outlook.num_before if outlook and job.status == "queued" else None,
                "wait_s": None if outlook is None or outlook.wait_s is None else round(outlook.wait_s, 1),
                **job.settings,
                **({"fps": result["fps"]} if "fps" in result else {}),
            }
        )


class VideoList(BaseModel):
    """One page of videos; the SDK asks for the next one with `after=last_id` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[Video]
    has_more: bool
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, page: Page, retention_s: float) -> "VideoList":
        """The page as clients see it."""
        videos = [Video.of(job, retention_s) for job in page.jobs]
        ends = (videos[0].id, videos[-1].id) if videos else (None, None)
        return cls(data=videos, has_more=page.has_more, first_id=ends[0], last_id=ends[1])


class VideoDeleted(BaseModel):
    """The reply to a deletion."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ModelCard(BaseModel):
    """A served model, or one version of it: OpenAI's four fields, then what a client must know to choose and to ask."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "skyloom"
    aliases: Annotated[list[str], Field(description="the registry's names for this version, also usable behind an @")]
    facts: ModelFacts

    @classmethod
    def all_of(cls, served: ServedModel | None, versions: Sequence[ModelVersion]) -> list[Self]:
        """The model under its plain name, once it has loaded, then each of its versions."""
        cards = [
            cls(
                id=version.id,
                created=int(version.created_s),
                aliases=version.aliases,
                facts=ModelFacts.model_validate(version.facts),
            )
            for version in versions
        ]
        if served is None:
            return cards
        aliases = next((card.aliases for card in cards if card.facts.version == served.version), [])
        facts = ModelFacts.model_validate(served.facts)
        return [cls(id=served.name, created=int(served.loaded_s), aliases=aliases, facts=facts), *cards]


class ModelList(BaseModel):
    """The reply to `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


Request = TypeVar("Request", bound=BaseModel)


def parse(kind: type[Request], fields: dict[str, Any]) -> Request:
    """The fields of a body as a request.

    Raises:
        ApiError: 400 that names the first field at fault.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error) from error


def check_rate(request: Sampling, facts: ModelFacts) -> None:
    """Passes when the model makes the frame rate that was asked for.

    Raises:
        ApiError: 400.
    """
    if request.fps not in (None, facts.fps):
        message = f"fps={request.fps:g} is not possible: the model makes {facts.fps:g} frames per second."
        raise invalid(message, param="fps")


def settings_of(request: Sampling, facts: ModelFacts, usual_guidance: float) -> dict[str, Any]:
    """How a video is sampled, each open field settled, the seed included: a second attempt repeats the first."""
    return {
        "seed": secrets.randbelow(2**31) if request.seed is None else request.seed,
        "num_inference_steps": request.num_inference_steps or facts.num_steps,
        "guidance_scale": usual_guidance if request.guidance_scale is None else request.guidance_scale,
        "negative_prompt": request.negative_prompt,
        "fps": facts.fps,
    }
