"""One Prefect server for the whole session, and a folder of captioned videos to run stages on."""

import numpy as np
import pytest
from prefect.testing.utilities import prefect_test_harness

from data.video import write_mp4
from flows.bench_exam import Exam
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.tiny import tiny_autoencoder, tiny_transformer
from training.probe import Probe


@pytest.fixture(scope="session")
def prefect_harness():
    """A Prefect server on a temporary database; the first migration of a cold machine takes more than a minute."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def captioned_videos(tmp_path):
    """Two videos of drifting stripes, each with a caption beside it."""
    folder = tmp_path / "source"
    folder.mkdir()
    stripes = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    for speed in (1, 2):
        frames = np.stack([np.roll(stripes, speed * time, axis=1) for time in range(32)])
        write_mp4(folder / f"{speed}.mp4", np.repeat(frames[..., None], 3, axis=-1), 8)
        (folder / f"{speed}.txt").write_text(f"stripes drift at speed {speed}")
    return folder


@pytest.fixture
def exam() -> Exam:
    """A tiny model of 8 frames at most, asked for one red ball, before a judge that knows two colours."""
    pipeline = SkyloomPipeline(tiny_autoencoder(), tiny_transformer())
    pipeline.facts = PipelineFacts(fps=8, trained_buckets=["32x32x8"], default_num_steps=1)
    return Exam(pipeline, Probe({"colour": ("red", "blue")}, dim=16).eval(), ["a red ball"], [{"colour": "red"}])
