"""The commands that make a video, one for each task of the model; all run in this process, without a server."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import CliPositionalArg

from flows.commands.flags import read_flags
from flows.commands.making import MakeFlags, Materials, make
from model.errors import ConfigError
from model.plan import Task
from model.shapes import VideoShape
from model.storyboard import Card, Storyboard
from model.tasks import Animate, Blend, Edit, Extend, Generate, Join, Loop
from serving.limits import seconds_text

SIZE = Field(default=None, description="WIDTHxHEIGHT; the model's own when not given")
SECONDS = Field(default=None, description="length; that of the training clips when not given")


class GenerateFlags(MakeFlags):
    """Makes a video from a prompt with the champion of a run, in this process."""

    prompt: CliPositionalArg[str] = Field(min_length=1, description="what the video shows")
    size: str | None = SIZE
    seconds: str | None = SECONDS
    num_frames: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("frames", "num_frames"),
        description="length in frames, in place of --seconds",
    )

    def shape(self, at: Materials) -> VideoShape:
        """The shape of the video.

        Raises:
            ConfigError: the length is said twice, or the model cannot make it.
        """
        if self.num_frames is None:
            return at.shape(self.seconds)
        if self.seconds is not None:
            raise ConfigError(f"--seconds {self.seconds} and --frames {self.num_frames} say the length; give one")
        return at.shape(seconds_text(self.num_frames / at.facts.fps))


def generate(name: str, arguments: list[str]) -> None:
    """A video from a prompt."""
    flags = read_flags(GenerateFlags, name, arguments)
    make(flags, flags.size, lambda at: Generate(at.prompt(flags.prompt), flags.shape(at)))


class LoopFlags(GenerateFlags):
    """Makes a video without beginning or end: played again and again, it has no seam."""


def loop(name: str, arguments: list[str]) -> None:
    """A perfect loop from a prompt."""
    flags = read_flags(LoopFlags, name, arguments)
    make(flags, flags.size, lambda at: Loop(at.prompt(flags.prompt), flags.shape(at)))


class AnimateFlags(MakeFlags):
    """Makes a video that begins with a given picture."""

    image: CliPositionalArg[Path] = Field(description="the picture: PNG, JPEG or WebP")
    prompt: CliPositionalArg[str] = Field(min_length=1, description="what happens")
    size: str | None = SIZE
    seconds: str | None = SECONDS


def animate(name: str, arguments: list[str]) -> None:
    """A video from a picture."""
    flags = read_flags(AnimateFlags, name, arguments)
    make(
        flags,
        flags.size,
        lambda at: Animate(at.image(flags.image), flags.prompt, at.num_frames(flags.seconds), at.expand),
    )


class ExtendFlags(MakeFlags):
    """Makes a video longer, after its end or before its beginning; what is there stays as it is."""

    video: CliPositionalArg[Path] = Field(description="the video")
    prompt: CliPositionalArg[str] = Field(min_length=1, description="what happens")
    direction: Literal["forward", "backward"] = Field(default="forward", description="forward or backward in time")
    size: str | None = SIZE
    seconds: str | None = Field(default=None, description="how much is added; the length of a clip when not given")


def extend(name: str, arguments: list[str]) -> None:
    """A longer video."""
    flags = read_flags(ExtendFlags, name, arguments)

    def order(at: Materials) -> Task:
        video, num_frames = at.video(flags.video), at.num_frames(flags.seconds)
        return Extend(video, flags.prompt, num_frames, flags.direction, at.expand)

    make(flags, flags.size, order)


class JoinFlags(MakeFlags):
    """Joins two videos by a transition that the model makes; both stay as they are."""

    first: CliPositionalArg[Path] = Field(description="the video before")
    second: CliPositionalArg[Path] = Field(description="the video after")
    prompt: str = Field(default="", description="what happens between them")
    size: str | None = Field(default=None, description="WIDTHxHEIGHT; the trained one nearest to the first video")
    seconds: str = Field(default="1", description="length of the transition")


def join(name: str, arguments: list[str]) -> None:
    """Two videos as one."""
    flags = read_flags(JoinFlags, name, arguments)

    def order(at: Materials) -> Task:
        first, second = at.pair(flags.first, flags.second)
        return Join(first, second, at.prompt(flags.prompt), at.num_frames(flags.seconds))

    make(flags, flags.size, order)


class BlendFlags(MakeFlags):
    """Turns one video into another, gradually, over the length of the shorter one."""

    first: CliPositionalArg[Path] = Field(description="the video at the beginning")
    second: CliPositionalArg[Path] = Field(description="the video at the end")
    first_prompt: str = Field(default="", description="what the first shows")
    second_prompt: str = Field(default="", description="what the second shows")
    strength: float = Field(default=0.7, gt=0, le=1, description="how much is made anew in the middle")
    size: str | None = Field(default=None, description="WIDTHxHEIGHT; the trained one nearest to the first video")


def blend(name: str, arguments: list[str]) -> None:
    """One video that becomes another."""
    flags = read_flags(BlendFlags, name, arguments)

    def order(at: Materials) -> Task:
        first, second = at.pair(flags.first, flags.second)
        length = min(len(first), len(second))
        prompts = at.prompt(flags.first_prompt), at.prompt(flags.second_prompt)
        return Blend(first[:length], second[-length:], prompts, flags.strength)

    make(flags, flags.size, order)


class EditFlags(MakeFlags):
    """Changes a video to what a prompt says."""

    video: CliPositionalArg[Path] = Field(description="the video")
    prompt: CliPositionalArg[str] = Field(min_length=1, description="what it should show")
    source_prompt: str | None = Field(
        default=None,
        validation_alias=AliasChoices("from", "source_prompt"),
        description="what it shows now: only the difference is changed, only in what this describes; else it is read",
    )
    strength: float | None = Field(default=None, gt=0, le=1, description="how far it may go from the video; 0.8 or 0.7")
    size: str | None = SIZE


def edit(name: str, arguments: list[str]) -> None:
    """A changed video."""
    flags = read_flags(EditFlags, name, arguments)

    def order(at: Materials) -> Task:
        return Edit(at.video(flags.video), flags.prompt, flags.source_prompt, flags.strength, at.expand)

    make(flags, flags.size, order)


class StoryboardFlags(MakeFlags):
    """Makes one video of several scenes, each from its prompt or going on from a file."""

    cards: CliPositionalArg[list[str]] = Field(
        min_length=1, description="the scenes, as 'SECONDS: PROMPT' or 'SECONDS FILE: PROMPT', a video or picture"
    )
    size: str | None = SIZE


def storyboard(name: str, arguments: list[str]) -> None:
    """A video of several scenes."""
    flags = read_flags(StoryboardFlags, name, arguments)

    def order(at: Materials) -> Task:
        shape = at.shape(None)
        first = flags.cards[0].partition(":")[2]
        return Storyboard(tuple(read_card(text, at, first) for text in flags.cards), shape.height, shape.width)

    make(flags, flags.size, order)


def read_card(text: str, at: Materials, like: str = "") -> Card:
    """The scene that `SECONDS: PROMPT` or `SECONDS FILE: PROMPT` stands for; what it leaves open is as in `like`.

    Raises:
        ConfigError: there is no colon, or no prompt after it.
        DecodeError: the file is no video or picture.
    """
    head, found, prompt = text.partition(":")
    if not found or not prompt.strip():
        raise ConfigError(f"scene {text!r} is not SECONDS: PROMPT; write for example '2: a red ball falls'")
    seconds, _, file = head.strip().partition(" ")
    clip = at.clip(Path(file.strip())) if file else None
    return Card(at.prompt(prompt.strip(), like), at.num_frames(seconds), clip)
