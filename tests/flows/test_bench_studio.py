"""Which scenes can be loops, and what a scene's object is recoloured to."""

import numpy as np
import pytest

from data.worlds.captions import COLOURS
from flows.bench_studio import Scene

EMPTY = np.zeros((1, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("motion", "camera", "can_close"),
    [("jumps", "stays still", True), ("jumps", "zooms in", False), ("slides left", "stays still", False)],
)
def test_only_what_comes_back_by_itself_can_close(motion: str, camera: str, can_close: bool) -> None:
    assert Scene(EMPTY, {"motion": motion, "camera": camera}).can_close is can_close


def test_the_new_colour_is_one_that_the_scene_does_not_show() -> None:
    for first in COLOURS:
        for second in COLOURS:
            assert Scene(EMPTY, {"colour": first}, second).other_colour not in (first, second)
