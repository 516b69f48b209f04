import numpy as np
import pytest

from data.records import Scores
from data.score import border, motion, score_clip, sharpness


def noise(seed: int = 0, size: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (size, size, 3), dtype=np.uint8)


def still(image: np.ndarray, num_frames: int = 8) -> np.ndarray:
    return np.repeat(image[None], num_frames, axis=0)


def sliding(seed: int = 0, num_frames: int = 8) -> np.ndarray:
    return np.stack([np.roll(noise(seed), 3 * k, axis=1) for k in range(num_frames)])


def test_motion_is_none_in_a_still_and_full_in_a_flicker():
    assert score_clip(still(noise())).motion == 0
    flicker = np.zeros((4, 8, 8), np.uint8)
    flicker[::2] = 255
    assert motion(flicker) == 1
    assert motion(flicker[:1]) == 0
    assert score_clip(sliding()).motion > 0.05


def test_blur_lowers_sharpness():
    sharp = noise()[..., 0]
    blurred = ((sharp.astype(int) + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) / 3).astype(np.uint8)
    assert sharpness(sharp[None]) > 2 * sharpness(blurred[None])
    assert sharpness(np.full((1, 8, 8), 9, np.uint8)) == 0


def test_exposure_is_mean_luma():
    assert score_clip(still(np.full((16, 16, 3), 51, np.uint8))).exposure == pytest.approx(0.2, abs=0.004)


@pytest.mark.parametrize("axis", [0, 1])
def test_border_is_the_share_of_bars(axis: int):
    barred = np.moveaxis(np.full((3, 40, 40), 128, np.uint8), 1, 1)
    bars = [slice(None)] * 3
    for part in (slice(0, 5), slice(35, 40)):
        bars[axis + 1] = part
        barred[tuple(bars)] = 16
    assert border(barred) == pytest.approx(0.25)


def test_a_dark_corner_or_one_dark_frame_is_no_border():
    lit = np.full((3, 40, 40), 128, np.uint8)
    lit[:, :20, :20] = 0
    lit[1] = 0
    assert border(lit) == 0
    assert border(np.zeros((3, 40, 40), np.uint8)) == 1


def test_equal_clips_have_equal_hashes_and_others_differ():
    def bits(scores: Scores) -> int:
        return int(scores.phash, 16)

    first, again, other = score_clip(sliding(0)), score_clip(sliding(0)), score_clip(sliding(1))
    assert len(first.phash) == 64  # 4 frames of 64 bits, in hex
    assert (first.phash, first.thumbnail) == (again.phash, again.thumbnail)
    assert (bits(first) ^ bits(other)).bit_count() > 60
