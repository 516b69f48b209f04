"""Frames to video and back, and video fitted to a size without being stretched."""

import numpy as np
import pytest
import torch

from model.pixels import covering, to_frames, to_video


def test_frames_come_back_as_they_were() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 16, 3), dtype=np.uint8)
    assert all(np.array_equal(one, other) for one, other in zip(to_frames(to_video(list(clips))), clips, strict=True))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 64), (96, 48), (64, 96)])
def test_a_disc_stays_round_and_in_the_middle(height: int, width: int) -> None:
    y, x = np.mgrid[:64, :96]
    disc = (np.hypot(y - 31.5, x - 47.5) < 12).astype(np.float32) * 2 - 1
    video = torch.from_numpy(disc).expand(1, 3, 2, 64, 96)
    fitted = covering(video, height, width)
    assert fitted.shape == (1, 3, 2, height, width)
    rows, columns = np.nonzero(fitted[0, 0, 0].numpy() > 0)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)
    assert (rows.mean(), columns.mean()) == pytest.approx(((height - 1) / 2, (width - 1) / 2), abs=0.6)
    assert np.ptp(rows) == pytest.approx(24 * max(height / 64, width / 96), abs=2)


def test_the_same_size_changes_nothing() -> None:
    video = torch.rand(1, 3, 2, 16, 24) * 2 - 1
    torch.testing.assert_close(covering(video, 16, 24), video, atol=1e-5, rtol=0)
