"""What the bench of sizes says of its judge, and by which way it makes long videos."""

import numpy as np
import pytest

from flows.starter_bench import Studio, ceiling_words, plain, timed
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.sampling_options import PolishRound, SamplingOptions
from model.shapes import VideoShape
from model.tiny import tiny_autoencoder, tiny_transformer
from training.judge import Drawn
from training.probe import Probe


@pytest.fixture
def studio() -> Studio:
    pipeline = SkyloomPipeline(tiny_autoencoder(), tiny_transformer())
    pipeline.facts = PipelineFacts(fps=8, trained_buckets=["32x32x8"], default_num_steps=1)
    return Studio(pipeline, Probe({"colour": ("red", "blue")}, dim=16).eval(), ["a red ball"], [{"colour": "red"}])


def unseen() -> Drawn:
    rng = np.random.default_rng(0)
    wide = [rng.integers(0, 255, (8, 16, 32, 3), dtype=np.uint8) for _ in range(2)]
    square = [rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    return Drawn(wide + square, [{"colour": "red", "shape": "ball"}] * 5)


def test_the_judge_is_held_to_real_clips_of_nearest_aspect(studio: Studio) -> None:
    assert ceiling_words(studio, VideoShape(8, 64, 64), unseen()).startswith("; of 3 real clips: ")
    assert ceiling_words(studio, VideoShape(4, 24, 48), unseen()).startswith("; of 2 real clips: ")


def test_nothing_is_said_where_no_real_clip_is_as_long(studio: Studio) -> None:
    assert ceiling_words(studio, VideoShape(16, 32, 32), unseen()) == ""


@pytest.mark.parametrize("num_frames", [8, 16])
def test_what_is_longer_than_the_window_is_made_as_users_make_it(studio: Studio, num_frames: int) -> None:
    plans: list[int] = []
    sampled = studio.pipeline._sampled
    studio.pipeline._sampled = lambda plan, *rest: plans.append(plan.index) or sampled(plan, *rest)  # pyright: ignore
    (video,) = studio.drawn(VideoShape(num_frames, 32, 32))
    assert video.shape == (num_frames, 32, 32, 3)
    assert plans == ([] if num_frames == 8 else [0, 1, 2])


def test_the_networks_calls_are_counted(studio: Studio) -> None:
    calls = {options: timed(studio, VideoShape(8, 32, 32), options).num_evaluations for options in (plain(3), plain(2))}
    assert calls == {plain(3): 6, plain(2): 4}, "with the prompt and without it at each step"
    assert timed(studio, VideoShape(8, 32, 32), plain(2, "heun")).num_evaluations == 6
    polished = SamplingOptions(num_steps=2, polish=(PolishRound(level=0.5, num_predictions=5),))
    assert timed(studio, VideoShape(8, 32, 32), polished).num_evaluations == 4 + 5
