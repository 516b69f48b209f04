"""Where a storyboard's change is found, and which scenes can be loops."""

import numpy as np
import pytest

from data.worlds.palette import COLOURS_RGB
from flows.task_bench import Scene, first_frame_of


def scene(colours: list[str]) -> np.ndarray:
    video = np.full((len(colours), 16, 16, 3), 128, np.uint8)
    for frame, colour in zip(video, colours, strict=True):
        frame[4:8, 4:8] = np.round(255 * np.array(COLOURS_RGB[colour]))
    return video


@pytest.mark.parametrize(("colours", "found"), [(["red"] * 5 + ["blue"] * 3, 5), (["blue"] * 4, 0), (["red"] * 4, 4)])
def test_the_change_is_the_first_frame_of_the_new_colour(colours: list[str], found: int) -> None:
    assert first_frame_of(scene(colours), "red", "blue") == found


@pytest.mark.parametrize(
    ("motion", "camera", "can_close"),
    [("jumps", "stays still", True), ("jumps", "zooms in", False), ("slides left", "stays still", False)],
)
def test_only_what_comes_back_by_itself_can_close(motion: str, camera: str, can_close: bool) -> None:
    assert Scene(scene(["red"]), {"motion": motion, "camera": camera}).can_close is can_close
