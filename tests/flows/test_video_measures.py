"""How the benches see seams, outliers, places, colours and exactness."""

import numpy as np
import pytest

from data.worlds.palette import COLOURS_RGB
from flows.video_measures import (
    border_step,
    colour_share,
    distance_px,
    farthest,
    first_frame_of,
    has_outlier,
    is_recoloured,
    largest_step_ratio,
    outside_psnr_db,
    psnr_db,
    step_ratio,
    turns_once,
)


def square(colour: str, lefts: list[int], side: int = 6) -> np.ndarray:
    """A square of a colour whose left edge is at these pixels, one for each frame."""
    video = np.full((len(lefts), 32, 32, 3), 120, np.uint8)
    for frame, left in zip(video, lefts, strict=True):
        frame[10 : 10 + side, left : left + side] = np.round(255 * np.array(COLOURS_RGB[colour]))
    return video


def test_an_even_motion_has_no_seam_and_a_jump_has_one() -> None:
    assert step_ratio(square("red", [0, 2, 4, 6, 8, 10]), 3) == pytest.approx(1)
    assert step_ratio(square("red", [0, 2, 4, 14, 16, 18]), 3) > 1.5


def test_a_loop_that_jumps_back_has_an_outlier() -> None:
    there_and_back = [0, 2, 4, 6, 8, 6, 4, 2]
    jumps_back = [0, 2, 4, 6, 8, 10, 12, 14]
    for turn in range(8):  # wherever the file begins
        assert not has_outlier(np.roll(square("red", there_and_back), turn, axis=0))
        assert has_outlier(np.roll(square("red", jumps_back), turn, axis=0))


def test_the_largest_step_is_held_against_the_usual_one() -> None:
    grey = np.array([0, 2, 4, 10, 12], np.uint8)[:, None, None, None]
    assert largest_step_ratio(np.broadcast_to(grey, (5, 4, 4, 3))) == 3


def test_a_border_shows_where_the_region_differs_from_what_is_around_it() -> None:
    video = square("red", [4, 4])
    mask = np.zeros(video.shape[:3], dtype=bool)
    mask[:, 8:20, 2:24] = True
    assert border_step(video, mask) == 0, "the object lies inside"
    assert border_step(np.where(mask[..., None], video + np.uint8(9), video), mask) == 9


def test_equal_pictures_are_exact() -> None:
    video = square("red", [0, 2])
    assert psnr_db(video, video) > 80
    assert psnr_db(video, 255 - video) < 20
    assert farthest(video, video) == 0
    assert farthest(video, video + np.uint8(3)) == 3


def test_a_recoloured_object_is_found_where_it_is() -> None:
    before = square("red", [4, 4, 4])
    assert distance_px(before, square("blue", [4, 4, 4]), "red", "blue") == 0
    assert distance_px(before, square("blue", [9, 9, 9]), "red", "blue") == 5
    assert distance_px(before, before, "red", "blue") == 32, "what is not seen is a picture away"


def test_half_a_new_colour_is_no_new_colour() -> None:
    before = square("red", [4, 4])
    assert is_recoloured(before, square("blue", [4, 4]), "red", "blue")
    assert not is_recoloured(before, square("blue", [4, 4], side=3), "red", "blue")
    assert not is_recoloured(before, np.maximum(before, square("blue", [20, 20])), "red", "blue")


def test_only_what_shows_neither_object_is_outside() -> None:
    before, after = square("red", [4, 4]), square("blue", [9, 9])
    assert outside_psnr_db(before, after, "red", "blue") > 80
    after[:, 0, 0] = 0
    assert outside_psnr_db(before, after, "red", "blue") < 50


def test_a_blend_turns_once_and_does_not_turn_back() -> None:
    red, blue = square("red", [4] * 8), square("blue", [4] * 8)
    assert colour_share(np.concatenate([red[:1], blue[:1]]), "red", "blue").tolist() == [0, 1]
    assert turns_once(np.concatenate([red, blue]), "red", "blue")
    assert not turns_once(np.concatenate([blue, red]), "red", "blue")
    assert not turns_once(np.concatenate([red, blue, red, blue]), "red", "blue")


@pytest.mark.parametrize(("colours", "found"), [(["red"] * 5 + ["blue"] * 3, 5), (["blue"] * 4, 0), (["red"] * 4, 4)])
def test_the_change_is_the_first_frame_of_the_new_colour(colours: list[str], found: int) -> None:
    assert first_frame_of(np.concatenate([square(colour, [4]) for colour in colours]), "red", "blue") == found
