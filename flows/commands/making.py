"""What every command that makes a video shares: its flags, the champion, the progress bar, the file."""

import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import AliasChoices, Field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from data.conform import conformed_image, conformed_video
from data.prompt_models import RewriterConfig, RulesConfig, load_rewriter
from data.video import mp4_writer
from flows.commands.champion import load_champion
from flows.commands.flags import Flags
from model.errors import ConfigError
from model.expander import AsItIs, Expander
from model.plan import Piece, Task, Video
from model.sampling_options import GuidanceKind, SamplingOptions, Solver
from model.shapes import VideoShape
from serving.engine import SamplingStep
from serving.limits import ModelFacts, shape_of

MAX_FILE_PX = 2**26
"""Of a given video, which lies in memory whole."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class MakeFlags(Flags):
    """How a video is sampled and where it goes."""

    out: Path = Field(
        Path("out.mp4"),
        validation_alias=AliasChoices("o", "out"),
        description="the file to write, H.264 in MP4",
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="same seed, same video; random when not given")
    num_steps: int | None = Field(default=None, ge=1, le=1000, description="sampling steps")
    guidance_scale: float | None = Field(default=None, ge=0, le=50, description="how strongly the prompt leads")
    solver: Solver = Field(default="euler", description="euler, heun or multistep")
    polish: bool = Field(default=True, description="whether outlines are steadied after the last step")
    negative_prompt: str = Field(default="", description="what the video should not show")
    guidance: GuidanceKind = Field(default="cfg", description="cfg, or zero_star (CFG-Zero*)")
    history_scale: float | None = Field(
        default=None, ge=0, le=20, description="how strongly given frames lead; 1 is plain"
    )
    rewriter: RewriterConfig = Field(
        default=RulesConfig(), description="who rewrites short prompts: rules, a transformers model or an endpoint"
    )
    expand: bool = Field(default=True, description="whether short prompts are put into the form of the captions")
    workspace: Path | None = Field(
        default=None,
        description="the run whose champion is used; artifacts/demo when not given, else the starter",
    )


class Materials:
    """A user's files, as frames that the loaded model can take."""

    def __init__(self, facts: ModelFacts, size: str | None = None, expand: Expander | None = None) -> None:
        self.facts, self._size, self.expand = facts, size, expand or AsItIs()

    def prompt(self, text: str, like: str = "") -> str:
        """A prompt as the model is given it; what it leaves open is as in `like`."""
        return self.expand(text, like)

    @property
    def shapes(self) -> list[VideoShape]:
        """The sizes that a file may be given: the one that was asked for, else all that were trained."""
        if self._size is not None:
            return [self.shape(None)]
        return [VideoShape.parse(bucket) for bucket in self.facts.trained_buckets]

    def video(self, path: Path) -> np.ndarray:
        """The frames of a video."""
        return self._frames(path, self.shapes)

    def pair(self, first: Path, second: Path) -> tuple[np.ndarray, np.ndarray]:
        """The frames of two videos, in the size of the first."""
        frames = self.video(first)
        return frames, self._frames(second, [VideoShape(*frames.shape[:3])])

    def _frames(self, path: Path, shapes: Sequence[VideoShape]) -> np.ndarray:
        most = MAX_FILE_PX // max(shape.height * shape.width for shape in shapes)
        return conformed_video(path, shapes, self.facts.fps, max_frames=most)

    def clip(self, path: Path) -> np.ndarray:
        """The frames of a video, or of a picture the one, in the size of a new video."""
        shapes = [self.shape(None)]
        if path.suffix.lower() in PICTURE_SUFFIXES:
            return conformed_image(path, shapes)[None]
        return self._frames(path, shapes)

    def image(self, path: Path) -> np.ndarray:
        """A picture."""
        return conformed_image(path, self.shapes)

    def shape(self, seconds: str | None) -> VideoShape:
        """The shape of a new video; how long it may be is for its maker to know."""
        facts = self.facts
        return shape_of(
            seconds or facts.default_seconds, self._size or facts.default_size, facts, max_video_px=sys.maxsize
        )

    def num_frames(self, seconds: str | None) -> int:
        """A length in frames."""
        return self.shape(seconds).num_frames


def make(flags: MakeFlags, size: str | None, order: Callable[[Materials], Task]) -> None:
    """Makes one video file of the task that `order` gives."""
    if flags.out.suffix != ".mp4":
        raise ConfigError(f"-o {str(flags.out)!r} must end in .mp4: H.264 in MP4 is what is written")
    console = Console(highlight=False)
    with console.status("loading the model"):
        loaded = load_champion(flags.workspace)
    facts = loaded.facts
    rewrite = load_rewriter(flags.rewriter, facts.prompt_expander) if flags.expand else AsItIs()
    task = order(Materials(facts, size, rewrite))
    seed = secrets.randbelow(2**31) if flags.seed is None else flags.seed
    options = sampling_options(flags, facts.num_steps)
    num_frames, size = 0, ""
    with mp4_writer(flags.out, facts.fps) as write:
        for frames in _drawn(loaded.pipeline.stream(task, seeds=[seed], options=options), console):
            write(frames)
            num_frames, size = num_frames + len(frames), f"{frames.shape[2]}x{frames.shape[1]}"
    made = f"{size}, {num_frames} frames at {facts.fps:g}/s, seed {seed}"
    console.print(f"{flags.out}: {made}, {facts.name} {facts.version}")


def sampling_options(flags: MakeFlags, usual_steps: int) -> SamplingOptions:
    """How the flags ask the model to sample; what they leave open is its own way."""
    return SamplingOptions(
        num_steps=flags.num_steps or usual_steps,
        guidance_scale=flags.guidance_scale,
        guidance=flags.guidance,
        history_scale=flags.history_scale,
        negative_prompt=flags.negative_prompt,
        solver=flags.solver,
        polish=None if flags.polish else (),
    )


def _drawn(stream: Iterable[SamplingStep | Piece], console: Console) -> Iterator[Video]:
    """The frames of the one video as they are finished, with the progress drawn on the way."""
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("sampling", total=None)
        for said in stream:
            if isinstance(said, Piece):
                yield said.videos[0]
            else:
                progress.update(bar, completed=said.step, total=said.num_steps)
