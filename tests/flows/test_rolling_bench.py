"""The drift of long videos: nothing for what stays, and the right slope for what fades; moving things do not count."""

import numpy as np
import pytest

from flows.rolling_bench import drift_slope


def scene(brightness: np.ndarray) -> np.ndarray:
    video = np.broadcast_to(brightness[:, None, None, None], (len(brightness), 32, 32, 3)).astype(np.uint8).copy()
    for frame in range(len(video)):
        video[frame, 10:14, 2 * frame % 28 : 2 * frame % 28 + 4] = (255, 0, 0)
    return video


def test_a_still_scene_with_a_moving_thing_does_not_drift() -> None:
    assert drift_slope(scene(np.full(128, 100.0))) < 0.1


def test_a_fading_scene_drifts_by_its_rate() -> None:
    assert drift_slope(scene(100 + 0.25 * np.arange(256))) == pytest.approx(25, rel=0.05)
