import numpy as np
import pytest

from data.video import iter_frames, read_frames
from data.worlds.film_writer import FilmWriter


def write(path, frames, times, durations, *, rate=8, crf=1, **options):
    height, width = frames[0].shape[:2]
    with FilmWriter(path, width=width, height=height, rate=rate, crf=crf, **options) as writer:
        writer.write(frames, times, durations)


@pytest.fixture
def frames():
    """Smooth pictures that drift, with one bright corner so that every turn shows."""
    rows, columns = np.mgrid[0:64, 0:96]
    pictures = [np.stack([rows * 2 + 4 * k, columns * 2, 90 + 0 * rows], axis=-1) for k in range(24)]
    stacked = np.stack(pictures).clip(0, 255).astype(np.uint8)
    stacked[:, :16, :16] = 250
    return stacked


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_players_show_the_film_upright(tmp_path, frames, rotation_deg):
    write(tmp_path / "film.mp4", frames, range(24), [1] * 24, rotation_deg=rotation_deg)
    read = read_frames(tmp_path / "film.mp4")
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 4


def test_timestamps_are_the_given_ones(tmp_path, frames):
    times = np.cumsum([0] + [4, 8, 6] * 8)
    write(tmp_path / "film.mp4", frames, times[:-1].tolist(), np.diff(times).tolist(), rate=48)
    read = [frame.time_s for frame in iter_frames(tmp_path / "film.mp4")]
    assert read == pytest.approx(times[:-1] / 48, abs=1e-4)


def test_equal_frames_give_equal_bytes_whatever_lies_in_memory(tmp_path):
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[0:96, 0:96]
    frames = []
    for k in range(54):  # three shots of a patch that slides over tiles, much as the tabletop's
        tiles = ((rows // 12 + (columns + k // 3) // 16) % 2) * 150 + 40 + 20 * (k // 18)
        patch = (abs(rows - 60) < 14) & (abs(columns - 20 - 3 * (k % 18)) < 12)
        frames.append(
            np.stack([np.where(patch, 220, tiles), np.where(patch, 60, tiles), tiles], axis=-1).astype(np.uint8)
        )
    written = set()
    for _ in range(10):
        rubbish = [noise.integers(0, 255, noise.integers(1_000, 500_000), dtype=np.uint8) for _ in range(4)]
        write(tmp_path / "film.mp4", frames, range(54), [1] * 54, crf=14)
        written.add((tmp_path / "film.mp4").read_bytes())
        del rubbish
    assert len(written) == 1


def test_a_film_that_fails_half_way_leaves_the_error_alone(tmp_path, frames):
    with pytest.raises(ValueError, match="zip"):
        write(tmp_path / "film.mp4", frames, range(24), [1] * 23)
