"""The region that an object is made anew in."""

import numpy as np

from data.worlds.palette import COLOURS_RGB
from flows.bench_studio import Scene
from flows.change_bench import box_around


def test_the_box_holds_the_object_in_every_frame() -> None:
    video = np.full((2, 48, 48, 3), 120, np.uint8)
    video[0, 20:24, 2:6] = video[1, 20:24, 30:34] = np.round(255 * np.array(COLOURS_RGB["red"]))
    mask = box_around(Scene(video, {"colour": "red"}))
    assert np.array_equal(mask[0], mask[1])
    rows, columns = np.nonzero(mask[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 31, 0, 41)
