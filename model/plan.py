"""What a task asks of the sampler and needs of a model, and the texts that the frames of a video follow."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from model.sampling import Start
from model.sampling_options import UNSAID, SamplingOptions
from model.shapes import LatentShape, VideoShape

Video = np.ndarray
"""Frames, uint8 `T H W C`."""

Chosen = Callable[[Tensor], Tensor]
"""Maps latents `B C T H W` to which of the samples are chosen, bool `B`."""


@dataclass(frozen=True)
class Script:
    """The prompts of a video and which of them each latent frame follows."""

    prompts: tuple[str, ...]
    prompt_of_frame: tuple[int, ...]

    @classmethod
    def of(cls, prompt: str, num_frames: int) -> "Script":
        """One prompt for all frames."""
        return cls((prompt,), (0,) * num_frames)

    def part(self, begin: int, end: int) -> "Script":
        """The script of frames `begin` to `end`, without the prompts that none of them follows."""
        frames = self.prompt_of_frame[begin:end]
        used = sorted(set(frames))
        return Script(tuple(self.prompts[place] for place in used), tuple(used.index(place) for place in frames))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One call of the sampler: `index` of `num_plans` that the task needs in all."""

    grid: LatentShape
    script: Script
    start: Start | None = None
    is_ring: bool = False
    source_prompt: str | None = None
    """What the start's latents show, when they are to be changed into what the script says (FlowEdit)."""
    usual: SamplingOptions = UNSAID
    """How it is sampled where nobody says; what this leaves open too is the model's own way."""
    polishes: Chosen | None = None
    """Which samples are polished where nobody says how, by the sampled latents; None is all."""
    index: int = 0
    num_plans: int = 1


def whole_plan(prompt: str, start: Start) -> Plan:
    """One plan over all frames of a start."""
    grid = LatentShape(*start.latents.shape[2:])
    return Plan(grid=grid, script=Script.of(prompt, grid.num_frames), start=start)


class Piece(NamedTuple):
    """The next finished frames of each sample; a task's pieces, one after the other, are its videos."""

    videos: list[Video]


class Question(NamedTuple):
    """How badly does each of several texts explain the video of normalised latents `1 C T H W`?"""

    latents: Tensor
    texts: Sequence[str]


TaskRun = Generator[Plan | Question | Piece, Tensor, None]
"""Yields plans, receives the latents `B C T H W` made of each, and yields frames as they are finished.

It may also yield questions, and receives the misfit of each text, `N`: the lower, the better.
"""


class Decoder(Protocol):
    """Decodes normalised latents that come bit by bit."""

    def __call__(self, latents: Tensor, *, is_last: bool) -> Iterator[list[Video]]:
        """The frames that are finished with these further latents; with the last ones, all that are left."""
        ...


class Model(Protocol):
    """What a task needs of the pipeline."""

    @property
    def window(self) -> int:
        """The most latent frames that the network was trained on at once."""
        ...

    @property
    def has_uniform_groups(self) -> bool:
        """Whether every latent frame stands for equally many frames, so that any of them can be given."""
        ...

    def grid(self, shape: VideoShape) -> LatentShape:
        """The latent grid of a video, or a `ConfigError`."""
        ...

    def encode(self, clips: list[Video]) -> Tensor:
        """Normalised latents `B C T H W`."""
        ...

    def padded(self, video: Video) -> Video:
        """The video, its last frame held until its length is one that `encode` takes."""
        ...

    def decode(self, latents: Tensor, *, is_ring: bool = False) -> list[Video]:
        """The videos of normalised latents."""
        ...

    def decoder(self) -> Decoder:
        """A decoder for one batch of videos, from their beginning."""
        ...


class Task(Protocol):
    """Something to ask of the model."""

    def run(self, model: Model) -> TaskRun:
        """The plans of this task and the pieces of its videos."""
        ...
