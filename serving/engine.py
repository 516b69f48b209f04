"""Weights to frames, without HTTP, jobs or Ray: one request in, progress and the finished frames out."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from model.errors import StageError
from model.plan import Piece, Task
from model.sampling_options import SamplingOptions
from model.shapes import Compression, VideoShape
from model.tasks import Generate
from serving.limits import ModelFacts

_SAMPLED_PERCENT = 90  # the rest is checking, signing and putting in place


class SamplingStep(Protocol):
    """How far the sampler is."""

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps in all."""
        ...


class VideoPipeline(Protocol):
    """What the engine needs of a model; `model.pipeline.SkyloomPipeline` is one."""

    @property
    def fps(self) -> float:
        """Frame rate of what it makes."""
        ...

    @property
    def compression(self) -> Compression:
        """Pixels per latent cell."""
        ...

    def generate(
        self, prompts: Sequence[str], shape: VideoShape, *, seeds: Sequence[int], options: SamplingOptions
    ) -> Generator[SamplingStep, None, list[np.ndarray]]:
        """Several prompts in one window: yields after each step, returns their frames, uint8 T H W C each."""
        ...

    def stream(self, task: Task, *, seeds: Sequence[int], options: SamplingOptions) -> Iterator[SamplingStep | Piece]:
        """Yields after each step, and the next frames of one video per seed once they are finished."""
        ...


class LoadedModel(NamedTuple):
    """A model in memory, with what clients must know of it."""

    pipeline: VideoPipeline
    facts: ModelFacts


@dataclass(frozen=True, kw_only=True)
class Order:
    """One video to make, and the shape that it must have."""

    task: Task
    shape: VideoShape
    seed: int
    options: SamplingOptions


def make(pipeline: VideoPipeline, orders: Sequence[Order]) -> Generator[int | Piece, None, dict[str, float]]:
    """Yields progress in percent and each order's next frames once they are finished; returns how long the parts took.

    Several orders must be videos from prompts that are alike but for prompt and seed.

    Raises:
        StageError: the model gave something else than the frames that were asked for.
    """
    seconds = {"sample": 0.0, "step": 0.0, "decode": 0.0}
    num_frames, began = 0, time.monotonic()
    for said in _stream(pipeline, orders):
        took = time.monotonic() - began
        if isinstance(said, Piece):
            seconds["decode"] += took
            num_frames += _checked_length(said, orders)
            yield said
        else:
            seconds["sample"] += took
            seconds["step"] = max(seconds["step"], took)
            yield _SAMPLED_PERCENT * said.step // max(said.num_steps, 1)
        began = time.monotonic()
    if num_frames != orders[0].shape.num_frames:
        raise StageError(f"the model gave {num_frames} frames for {orders[0].shape}; is it a Skyloom pipeline?")
    return seconds


def _stream(pipeline: VideoPipeline, orders: Sequence[Order]) -> Iterator[SamplingStep | Piece]:
    """What the model says while it makes the orders."""
    first = orders[0]
    if len(orders) == 1:
        yield from pipeline.stream(first.task, seeds=[first.seed], options=first.options)
        return
    prompts = [order.task.prompt for order in orders if isinstance(order.task, Generate)]
    seeds = [order.seed for order in orders]
    yield Piece((yield from pipeline.generate(prompts, first.shape, seeds=seeds, options=first.options)))


def _checked_length(piece: Piece, orders: Sequence[Order]) -> int:
    """How many frames a piece has."""
    for order, frames in zip(orders, piece.videos, strict=True):
        if frames.shape[1:] != (*order.shape[1:], 3) or frames.dtype != np.uint8:
            raise StageError(
                f"the model gave frames {frames.shape} {frames.dtype} for {order.shape}; is it a Skyloom pipeline?"
            )
    return len(piece.videos[0])
