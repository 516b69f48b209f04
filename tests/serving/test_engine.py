"""Weights to frames with a tiny real model: progress, size, repeatability."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.errors import StageError
from model.pipeline import SkyloomPipeline
from model.plan import Piece
from model.sampling_options import SamplingOptions
from model.shapes import VideoShape
from model.tasks import Generate
from model.tiny import save_tiny_pipeline
from serving.engine import Order, make

SHAPE = VideoShape(12, 32, 48)
OPTIONS = SamplingOptions(num_steps=2, guidance_scale=2.0)
ORDER = Order(task=Generate("a red ball", SHAPE), shape=SHAPE, seed=3, options=OPTIONS)


def made(pipeline: SkyloomPipeline, orders: Sequence[Order]) -> list[np.ndarray]:
    """The whole videos of the orders."""
    pieces = [said.videos for said in make(pipeline, orders) if isinstance(said, Piece)]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> SkyloomPipeline:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_pipeline(folder)
    return SkyloomPipeline.from_pretrained(folder)


def test_steps_and_frames_come_while_a_long_video_is_made(pipeline: SkyloomPipeline) -> None:
    shape = SHAPE._replace(num_frames=100)
    said = list(make(pipeline, [replace(ORDER, task=Generate("a red ball", shape), shape=shape)]))
    steps = [percent for percent in said if not isinstance(percent, Piece)]
    assert steps == sorted(steps)
    assert 0 < steps[0] < steps[-1] == 90
    lengths = [len(piece.videos[0]) for piece in said if isinstance(piece, Piece)]
    assert sum(lengths) == 100
    first = next(place for place, one in enumerate(said) if isinstance(one, Piece))
    assert first < len(said) / 2, "frames come before the last step"


def test_a_seed_decides_every_byte_alone_and_in_a_batch(pipeline: SkyloomPipeline) -> None:
    orders = [replace(ORDER, seed=seed) for seed in (3, 3, 4)]
    alone = [made(pipeline, [order])[0].tobytes() for order in orders]
    assert alone[0] == alone[1] != alone[2]
    together = [frames.astype(int) for frames in made(pipeline, orders)]
    for one, frames in zip(alone, together, strict=True):
        # a batch sums in another order: what is left of that after rounding is one step of 255 at most
        assert np.abs(np.frombuffer(one, np.uint8).reshape(frames.shape) - frames).max() <= 1


@pytest.mark.parametrize("cut", [np.s_[:-1], np.s_[:, :-2]])
def test_frames_that_were_not_asked_for_are_refused(pipeline: SkyloomPipeline, cut) -> None:
    class Short(SkyloomPipeline):
        def stream(self, *args, **kwargs):
            for said in super().stream(*args, **kwargs):
                yield Piece([said.videos[0][cut]]) if isinstance(said, Piece) else said

    short = Short(pipeline.autoencoder, pipeline.transformer)
    with pytest.raises(StageError, match="Skyloom pipeline"):
        made(short, [ORDER])
