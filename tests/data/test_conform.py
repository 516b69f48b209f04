"""A user's files as model frames: rate by presentation time, nearest size, whole length."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.conform import conformed_image, conformed_video
from data.video import read_frames, write_mp4
from model.errors import DecodeError
from model.shapes import VideoShape

SHAPES = [VideoShape(16, 64, 64), VideoShape(16, 48, 80)]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds at 24 frames/s, 160x96, brighter by the frame."""
    frames = np.arange(48, dtype=np.uint8)[:, None, None, None] * np.full((1, 96, 160, 3), 5, np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, 24)
    return tmp_path / "film.mp4"


def test_time_decides_which_frames_are_taken(film: Path) -> None:
    frames = conformed_video(film, SHAPES, 8, max_frames=100)
    assert frames.shape == (16, 48, 80, 3)
    levels = frames.mean(axis=(1, 2, 3)) / 5
    assert levels == pytest.approx(np.arange(16) * 3, abs=0.8)


def test_a_slower_film_shows_its_frames_longer(film: Path) -> None:
    frames = conformed_video(film, SHAPES, 48, max_frames=200)
    assert len(frames) == 96
    assert np.array_equal(frames[0], frames[1])


def test_a_clip_of_the_models_own_size_comes_as_it_is(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 255, (8, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    write_mp4(tmp_path / "own.mp4", frames, 8)
    assert np.array_equal(
        conformed_video(tmp_path / "own.mp4", SHAPES, 8, max_frames=99), read_frames(tmp_path / "own.mp4")
    )


def test_no_more_is_read_than_wanted(film: Path) -> None:
    assert len(conformed_video(film, SHAPES, 8, max_frames=5)) == 5


def test_a_picture_takes_the_nearest_aspect(tmp_path: Path) -> None:
    Image.new("RGB", (200, 190), (255, 0, 0)).save(tmp_path / "square.png")
    image = conformed_image(tmp_path / "square.png", SHAPES)
    assert image.shape == (64, 64, 3)
    assert image[..., 0].min() > 250


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no media")
    with pytest.raises(DecodeError, match="picture"):
        conformed_image(tmp_path / "text", SHAPES)
    with pytest.raises(DecodeError, match="video"):
        conformed_video(tmp_path / "text", SHAPES, 8, max_frames=8)
