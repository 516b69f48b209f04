"""Weights to files, without HTTP, jobs or Ray: one request in, progress on the way, the finished files out."""

import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, get_args
from uuid import uuid4

import numpy as np
from PIL import Image

from data.video import write_mp4
from model.errors import StageError
from model.plan import Task
from model.sampling import SamplingOptions
from model.shapes import Compression, VideoShape
from model.tasks import Generate
from model.weights import file_digest
from serving.limits import ModelFacts
from serving.store.storage import FILE_NAMES, MEDIA_TYPES, Variant

_SAMPLED_PERCENT = 90  # the rest is decoding and encoding
_SPRITES = 16


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
        """As `run`, for several prompts in one window."""
        ...

    def run(
        self, task: Task, *, seeds: Sequence[int], options: SamplingOptions
    ) -> Generator[SamplingStep, None, list[np.ndarray]]:
        """Yields after each step; returns the frames of one video per seed, uint8 T H W C."""
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


Seal: TypeAlias = Callable[[Path, str], None]
"""Signs a file of a media type, in place."""


class Made(NamedTuple):
    """The frames of each order, and how long their parts took."""

    videos: list[np.ndarray]
    seconds: dict[str, float]


def make(pipeline: VideoPipeline, orders: Sequence[Order]) -> Generator[int, None, Made]:
    """Yields progress in percent; returns the frames of each order. Several must be alike but for prompt and seed.

    Raises:
        StageError: the model gave something else than the frames that were asked for.
    """
    first = orders[0]
    prompts = [order.task.prompt for order in orders if isinstance(order.task, Generate)]
    if len(orders) > 1 and len(prompts) == len(orders):
        seeds = [order.seed for order in orders]
        parts = [pipeline.generate(prompts, first.shape, seeds=seeds, options=first.options)]
    else:
        parts = [pipeline.run(order.task, seeds=[order.seed], options=order.options) for order in orders]
    videos: list[np.ndarray] = []
    seconds: dict[str, float] = {"sample": 0.0, "step": 0.0, "decode": 0.0}
    for part in parts:
        videos += yield from _progress(part, seconds)
    for order, frames in zip(orders, videos, strict=True):
        if frames.shape != (*order.shape, 3) or frames.dtype != np.uint8:
            raise StageError(
                f"the model gave frames {frames.shape} {frames.dtype} for {order.shape}; is it a Skyloom pipeline?"
            )
    yield _SAMPLED_PERCENT
    return Made(videos, seconds)


def write_files(frames: np.ndarray, fps: float, folder: Path, seal: Seal) -> dict[Variant, Any]:
    """Name, sha256 and size of the video, its thumbnail and its spritesheet, sealed, written to `folder` at once."""
    draft = folder.with_name(f".{folder.name}.{uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        write_mp4(draft / FILE_NAMES["video"], frames, fps)
        Image.fromarray(frames[len(frames) // 2]).save(
            draft / FILE_NAMES["thumbnail"],
            quality=90,
            lossless=len(frames) == 1,  # then it is the picture itself
        )
        Image.fromarray(spritesheet(frames)).save(draft / FILE_NAMES["spritesheet"], quality=90)
        for variant in get_args(Variant):
            seal(draft / FILE_NAMES[variant], MEDIA_TYPES[variant])
        files = {variant: _facts(draft / FILE_NAMES[variant]) for variant in get_args(Variant)}
        _sync(draft)
        shutil.rmtree(folder, ignore_errors=True)  # an earlier try of the same attempt
        draft.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files


def spritesheet(frames: np.ndarray) -> np.ndarray:
    """Up to 16 frames, evenly spread, in a grid read like text; uint8 H W C."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(_SPRITES, len(frames))).round().astype(int)]
    num_columns = math.ceil(math.sqrt(len(chosen)))
    num_rows = math.ceil(len(chosen) / num_columns)
    height, width = frames.shape[1:3]
    sheet = np.zeros((num_rows * height, num_columns * width, 3), np.uint8)
    for index, frame in enumerate(chosen):
        row, column = divmod(index, num_columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = frame
    return sheet


def _progress(
    sampler: Generator[SamplingStep, None, list[np.ndarray]], seconds: dict[str, float]
) -> Generator[int, None, list[np.ndarray]]:
    """Adds to `seconds` what the steps, the longest of them, and the decoding behind the last took."""
    began = time.monotonic()
    while True:
        try:
            done = next(sampler)
        except StopIteration as stop:
            seconds["decode"] += time.monotonic() - began
            return stop.value
        took, began = time.monotonic() - began, time.monotonic()
        seconds["sample"] += took
        seconds["step"] = max(seconds["step"], took)
        yield _SAMPLED_PERCENT * done.step // max(done.num_steps, 1)


def _facts(path: Path) -> dict[str, Any]:
    _sync(path)
    return {"name": path.name, "sha256": file_digest(path), "num_bytes": path.stat().st_size}


def _sync(path: Path) -> None:
    """Makes a file or a folder's entries survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
