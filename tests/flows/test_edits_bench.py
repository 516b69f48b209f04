"""How the edits' benchmark sees seams, outliers, places and exactness."""

import numpy as np
import pytest

from data.worlds.captions import Attributes
from data.worlds.palette import COLOURS_RGB
from flows.edits_bench import colour_share, distance_px, has_outlier, psnr_db, step_ratio
from flows.task_bench import Scene


def square(colour: str, lefts: list[int]) -> np.ndarray:
    """A square of a colour whose left edge is at these pixels, one for each frame."""
    video = np.full((len(lefts), 32, 32, 3), 120, np.uint8)
    for frame, left in zip(video, lefts, strict=True):
        frame[10:16, left : left + 6] = np.round(255 * np.array(COLOURS_RGB[colour]))
    return video


def test_an_even_motion_has_no_seam_and_a_jump_has_one() -> None:
    assert step_ratio(square("red", [0, 2, 4, 6, 8, 10]), 3) == pytest.approx(1)
    assert step_ratio(square("red", [0, 2, 4, 14, 16, 18]), 3) > 1.5


def test_a_loop_that_jumps_back_has_an_outlier() -> None:
    there_and_back = [0, 2, 4, 6, 8, 6, 4, 2]
    assert not has_outlier(square("red", 3 * there_and_back))
    assert has_outlier(square("red", 3 * [0, 2, 4, 6, 8, 10, 12, 14]))


def test_equal_pictures_are_exact() -> None:
    video = square("red", [0, 2])
    assert psnr_db(video, video) > 80
    assert psnr_db(video, 255 - video) < 20


def test_a_recoloured_object_is_found_where_it_is() -> None:
    attributes = vars(Attributes("red", "cube", "large", "jumps", "white", "stays still"))
    before = square("red", [4, 4, 4])
    scene = Scene(before, attributes)
    assert distance_px(scene, before, square("blue", [4, 4, 4]), "blue") == 0
    assert distance_px(scene, before, square("blue", [9, 9, 9]), "blue") == 5
    assert colour_share(np.concatenate([before[:1], square("blue", [4])]), "red", "blue").tolist() == [0, 1]
