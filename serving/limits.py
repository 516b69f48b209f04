"""What the served model can make, and whether a wanted duration and size is among it."""

import re
from fractions import Fraction
from typing import NamedTuple

from pydantic import Field

from model.config import Config
from model.errors import ConfigError
from model.shapes import VideoShape

_SECONDS = re.compile(r"\d{1,5}(\.\d{1,6})?", re.ASCII)
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
# 0.167 s at 24 frames/s means 4 frames, and 4 s at 29.97 means 120
_FRAME_TOLERANCE, _RATE_TOLERANCE = 0.05, 0.001


class LimitError(ConfigError):
    """A duration or size that the model cannot make; `param` is the request's field at fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class ModelFacts(Config):
    """What a client must know of the served model; the replica publishes it, the ingress checks against it."""

    name: str
    version: str
    weights_digest: str
    dataset_id: str = ""
    prompt_expander: str = ""
    fps: float = Field(gt=0, description="frame rate of every video it makes")
    frame_step: int = Field(ge=1, description="frames come in groups of this many")
    width_step: int = Field(ge=1, description="widths are multiples of this, in pixels")
    height_step: int = Field(ge=1, description="heights are multiples of this, in pixels")
    trained_buckets: tuple[str, ...] = Field(description="sizes seen in training, WIDTHxHEIGHTxFRAMES")
    window_frames: int = Field(
        0, ge=0, description="frames that it makes at once; longer videos are made piece by piece"
    )
    num_steps: int = Field(20, ge=1, description="sampling steps when the request names none")
    guidance_scale: float = Field(2.5, ge=0, description="guidance when the request names none")

    @property
    def default_size(self) -> str:
        """The size of a request that names none: the first that was trained."""
        shape = self._default_shape
        return f"{shape.width}x{shape.height}"

    @property
    def default_seconds(self) -> str:
        """The duration of a request that names none: that of the trained clips."""
        return seconds_text(self._default_shape.num_frames / self.fps)

    @property
    def _default_shape(self) -> VideoShape:
        if self.trained_buckets:
            return VideoShape.parse(self.trained_buckets[0])
        return VideoShape(self.frame_step, self.height_step, self.width_step)


WINDOW_BY_WINDOW = frozenset({"generate", "animate", "feature", "storyboard"})
"""Kinds of operations whose videos cost time, and no memory, by their length."""


class PixelLimits(NamedTuple):
    """The most width x height x frames: of what is made at once, and of a video in all."""

    at_once: int
    in_all: int


def shape_of(seconds: str, size: str, facts: ModelFacts, *, max_video_px: int) -> VideoShape:
    """The frames and pixels of a video of this duration and size.

    Raises:
        LimitError: the model cannot make it; the message names the nearest that it can.
    """
    height, width = _sides(size, facts)
    num_frames = _num_frames(seconds, facts)
    if height * width * num_frames > max_video_px:
        longest = max_video_px // (height * width) // facts.frame_step * facts.frame_step
        fitting = f"at {size} use at most {seconds_text(longest / facts.fps)} seconds"
        raise LimitError(
            "seconds" if longest else "size",
            f"{seconds} seconds of {size} are {height * width * num_frames} pixels in all; "
            f"this server makes at most {max_video_px}; {fitting if longest else 'use a smaller size'}.",
        )
    return VideoShape(num_frames, height, width)


def check_pixels(shape: VideoShape, kind: str, facts: ModelFacts, limits: PixelLimits) -> None:
    """Passes when a video of this shape, made by this kind of operation, is not too much for the server.

    Raises:
        LimitError: it is.
    """
    frame_px = shape.height * shape.width
    is_rolled = kind in WINDOW_BY_WINDOW and facts.window_frames > 0
    num_at_once = min(shape.num_frames, facts.window_frames) if is_rolled else shape.num_frames
    for num_px, most, how in (
        (num_at_once * frame_px, limits.at_once, "at once"),
        (shape.num_frames * frame_px, limits.in_all, "in all"),
    ):
        if num_px > most:
            message = f"The result would have {num_px} pixels {how}; this server makes at most {most}."
            raise LimitError("seconds", message)


def num_frames_of(seconds: str, fps: float) -> int:
    """The frames of a video whose duration stands in its job, as `seconds_text` wrote it."""
    return round(float(seconds) * fps)


def seconds_text(seconds: float) -> str:
    """A duration as the wire has it: `2`, `0.5`, `0.167`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _num_frames(seconds: str, facts: ModelFacts) -> int:
    if not _SECONDS.fullmatch(seconds):
        raise LimitError("seconds", f"seconds={seconds[:40]!r} is not a number of seconds such as '2' or '2.5'.")
    wanted = float(Fraction(seconds) * Fraction(facts.fps))
    step = facts.frame_step
    num_frames = max(step, round(wanted / step) * step)
    if abs(num_frames - wanted) > min(_FRAME_TOLERANCE + _RATE_TOLERANCE * wanted, 0.5):
        below = max(step, int(wanted // step) * step)
        nearest = " or ".join(f"'{seconds_text(n / facts.fps)}'" for n in (below, below + step))
        raise LimitError(
            "seconds",
            f"seconds={seconds!r} is {wanted:g} frames at {facts.fps:g} frames per second; "
            f"the model makes whole groups of {step} frames; use {nearest}.",
        )
    return num_frames


def _sides(size: str, facts: ModelFacts) -> tuple[int, int]:
    match = _SIZE.fullmatch(size)
    if not match:
        raise LimitError("size", f"size={size[:40]!r} is not WIDTHxHEIGHT such as '{facts.default_size}'.")
    width, height = int(match[1]), int(match[2])
    near_width, near_height = _nearest(width, facts.width_step), _nearest(height, facts.height_step)
    if (near_width, near_height) != (width, height):
        raise LimitError(
            "size",
            f"size={size!r} is not possible: width must be a positive multiple of {facts.width_step} and height of "
            f"{facts.height_step}; use '{near_width}x{near_height}'.",
        )
    return height, width


def _nearest(size: int, step: int) -> int:
    return max(step, round(size / step) * step)
