"""The drifts of long videos: nothing for what stays, and the right slope for what fades or shrinks."""

import numpy as np
import pytest

from data.worlds.palette import COLOURS_RGB
from flows.rolling_bench import late_slope_of, object_distances, scene_distances, slope_of


def slope_of_scene(video: np.ndarray) -> float:
    return slope_of(scene_distances(video))


def slope_of_object(video: np.ndarray, colour: str) -> float:
    return slope_of(object_distances(video, colour))


def scene(brightness: np.ndarray) -> np.ndarray:
    video = np.broadcast_to(brightness[:, None, None, None], (len(brightness), 32, 32, 3)).astype(np.uint8).copy()
    for frame in range(len(video)):
        video[frame, 10:14, 2 * frame % 28 : 2 * frame % 28 + 4] = (255, 0, 0)
    return video


def test_a_still_scene_with_a_moving_thing_does_not_drift() -> None:
    assert slope_of_scene(scene(np.full(128, 100.0))) < 0.1


def test_a_fading_scene_drifts_by_its_rate() -> None:
    assert slope_of_scene(scene(100 + 0.25 * np.arange(256))) == pytest.approx(25, rel=0.05)


def ball(areas: np.ndarray, colour: str) -> np.ndarray:
    """A grey video in which the first pixels of each frame, as many as its area, show a colour."""
    video = np.full((len(areas), 1024, 3), 100, np.uint8)
    for frame, area in zip(video, areas, strict=True):
        frame[: round(area)] = np.round(255 * np.array(COLOURS_RGB[colour]))
    return video.reshape(len(areas), 32, 32, 3)


def test_an_object_that_stays_does_not_drift() -> None:
    assert slope_of_object(ball(np.full(128, 200), "blue"), "blue") < 0.1


@pytest.mark.parametrize("direction", [-1, 1])
def test_an_object_that_shrinks_or_grows_drifts_by_its_rate(direction: int) -> None:
    areas = 400 + direction * np.arange(256)
    assert slope_of_object(ball(areas, "blue"), "blue") == pytest.approx(25, rel=0.05)


def test_an_object_that_turns_into_another_drifts() -> None:
    areas = np.full(128, 200)
    turned = np.concatenate([ball(areas, "blue"), ball(areas, "red")])
    assert slope_of_object(turned, "blue") > 30


def test_what_leaves_at_once_and_stays_away_has_drifted() -> None:
    distances = object_distances(ball(np.repeat([400, 200], [16, 240]), "blue"), "blue")
    assert slope_of(distances) > 25
    assert late_slope_of(distances) < 10
