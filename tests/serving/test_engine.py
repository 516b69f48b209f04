"""Weights to files with a tiny real model: progress, size, rate, repeatability; files whole or absent."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import read_frames
from model.errors import StageError
from model.pipeline import SkyloomPipeline
from model.runner import finish
from model.sampling import SamplingOptions
from model.shapes import VideoShape
from model.tasks import Generate
from model.tiny import save_tiny_pipeline
from serving.engine import Order, make, spritesheet, write_files
from serving.store.storage import FILE_NAMES

SHAPE = VideoShape(12, 32, 48)
OPTIONS = SamplingOptions(num_steps=2, guidance_scale=2.0)
ORDER = Order(task=Generate("a red ball", SHAPE), shape=SHAPE, seed=3, options=OPTIONS)


def unsealed(path: Path, media_type: str) -> None:
    """Leaves a file as it is."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> SkyloomPipeline:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_pipeline(folder)
    return SkyloomPipeline.from_pretrained(folder)


def test_a_prompt_becomes_files(pipeline: SkyloomPipeline, tmp_path: Path) -> None:
    steps, folder = [], tmp_path / "job" / "1"
    making = make(pipeline, [ORDER])
    try:
        while True:
            steps.append(next(making))
    except StopIteration as stop:
        files = write_files(stop.value.videos[0], pipeline.fps, folder, unsealed)
    assert steps == sorted(steps)
    assert 0 < steps[0] < steps[-1] == 90
    assert {path.name for path in folder.iterdir()} == set(FILE_NAMES.values())
    assert read_frames(folder / "video.mp4").shape == (12, 32, 48, 3)
    with av.open(str(folder / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(8))
    assert files["video"]["num_bytes"] == (folder / "video.mp4").stat().st_size


def test_a_seed_decides_every_byte_alone_and_in_a_batch(pipeline: SkyloomPipeline) -> None:
    orders = [replace(ORDER, seed=seed) for seed in (3, 3, 4)]
    alone = [finish(make(pipeline, [order])).videos[0].tobytes() for order in orders]
    assert alone[0] == alone[1] != alone[2]
    together = [frames.astype(int) for frames in finish(make(pipeline, orders)).videos]
    for one, frames in zip(alone, together, strict=True):
        # a batch sums in another order: what is left of that after rounding is one step of 255 at most
        assert np.abs(np.frombuffer(one, np.uint8).reshape(frames.shape) - frames).max() <= 1


def test_frames_that_were_not_asked_for_are_refused(pipeline: SkyloomPipeline) -> None:
    class Short(SkyloomPipeline):
        def run(self, *args, **kwargs):
            frames = yield from super().run(*args, **kwargs)
            return [frames[0][:-1]]

    short = Short(pipeline.autoencoder, pipeline.transformer)
    with pytest.raises(StageError, match="Skyloom pipeline"):
        finish(make(short, [ORDER]))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)

    def full(path: Path) -> str:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("serving.engine.file_digest", full)
        with pytest.raises(OSError, match="disk full"):
            write_files(frames, 8, tmp_path / "1", unsealed)
    assert list(tmp_path.iterdir()) == []
    write_files(frames, 8, tmp_path / "1", unsealed)
    write_files(frames, 8, tmp_path / "1", unsealed)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_sprites_read_like_text() -> None:
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    sheet = spritesheet(frames)
    assert sheet.shape == (8, 12, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[-1, -1, 0] == 19
    assert list(sheet[0, ::3, 0]) == sorted(sheet[0, ::3, 0])
    assert spritesheet(frames[:3]).shape == (4, 6, 3)
