import colorsys
import itertools
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data.worlds.camera import FrameSize
from data.worlds.captions import CAMERAS, COLOURS, MOTIONS, SHAPES, SIZES, Attributes
from data.worlds.choreography import plan_shot
from data.worlds.palette import COLOURS_RGB
from data.worlds.programme import TICKS_PER_S
from data.worlds.tabletop import Tabletop

FRAMES = {"wide": FrameSize(128, 72), "square": FrameSize(96, 96), "tall": FrameSize(72, 128)}
NUM_TICKS = 108


@pytest.fixture(scope="module")
def tabletops():
    return {name: Tabletop(frame) for name, frame in FRAMES.items()}


@pytest.fixture
def shoot(tabletops):
    def take(aspect="square", ticks=range(0, NUM_TICKS, 6), seed=0, backdrop=0.8, **changes):
        asked = {"colour": "red", "shape": "ball", "size": "large", "motion": "falls", "floor": "white"}
        attributes = Attributes(**({"camera": "stays still"} | asked | changes))
        rng = np.random.default_rng(seed)
        plan = plan_shot(attributes, NUM_TICKS / TICKS_PER_S, backdrop, FRAMES[aspect], rng)
        return tabletops[aspect].shoot(plan, list(ticks))

    return take


def object_mask(frame):
    """Where the picture is coloured: floors, wall and shadow are grey."""
    pixels = frame.astype(int)
    return pixels.max(axis=-1) - pixels.min(axis=-1) > 45


@pytest.mark.parametrize("aspect", FRAMES)
def test_object_stays_inside_the_picture(shoot, aspect):
    frame = FRAMES[aspect]
    for shape, size, motion, camera in itertools.product(SHAPES, SIZES, MOTIONS, CAMERAS):
        take = shoot(aspect, range(0, NUM_TICKS, 36), shape=shape, size=size, motion=motion, camera=camera)
        left, top, right, bottom = take.boxes_px.T
        assert left.min() >= 4, (shape, size, motion, camera)
        assert right.max() <= frame.width - 4, (shape, size, motion, camera)
        assert top.min() >= 2, (shape, size, motion, camera)
        assert bottom.max() <= frame.height, (shape, size, motion, camera)


@pytest.mark.parametrize("shape", SHAPES)
def test_truth_boxes_frame_the_drawn_pixels(shoot, shape):
    take = shoot(shape=shape, motion="slides left", camera="pans right", colour="blue")
    for frame, box in zip(take.frames, take.boxes_px, strict=True):
        rows, columns = np.nonzero(object_mask(frame))
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(box - drawn).max() <= 2.1


@pytest.mark.parametrize("colour", COLOURS)
def test_object_alone_has_a_hue_and_it_is_the_asked_one(shoot, colour):
    take = shoot(colour=colour, floor="dark", ticks=[0, 54, 107])
    for frame, box in zip(take.frames, take.boxes_px, strict=True):
        mask = object_mask(frame)
        left, top, right, bottom = np.round(box).astype(int)
        inside = np.zeros_like(mask)
        inside[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = True
        assert mask[inside].mean() > 0.5
        assert not mask[~inside].any()
        hue = colorsys.rgb_to_hsv(*np.median(frame[mask], axis=0) / 255)[0]
        distances = {
            name: abs((hue - colorsys.rgb_to_hsv(*rgb)[0] + 0.5) % 1 - 0.5) for name, rgb in COLOURS_RGB.items()
        }
        assert min(distances, key=lambda name: distances[name]) == colour


@pytest.mark.parametrize("aspect", FRAMES)
@pytest.mark.parametrize(("count", "num"), [("two", 2), ("three", 3)])
def test_a_group_stays_inside_and_has_as_many_members_as_asked(shoot, aspect, count, num):
    frame = FRAMES[aspect]
    for shape, size, motion in itertools.product(SHAPES, SIZES, MOTIONS):
        take = shoot(aspect, (0, 54, 107), shape=shape, size=size, motion=motion, count=count, backdrop=0.5)
        left, top, right, bottom = take.boxes_px.T
        assert min(left.min(), (frame.width - right).min()) >= 4, (shape, size, motion)
        assert min(top.min(), (frame.height - bottom).min()) >= 0, (shape, size, motion)
        for picture in take.frames:
            parts, _ = cv2.connectedComponents(cv2.erode(object_mask(picture).astype(np.uint8), np.ones((2, 2))))
            assert parts - 1 <= num
    alone = shoot(aspect, (0,), shape="cylinder", count=count, motion="jumps")
    assert cv2.connectedComponents(object_mask(alone.frames[0]).astype(np.uint8))[0] - 1 == num


def test_sizes_are_clearly_distinct(shoot):
    for camera in CAMERAS:
        heights = {}
        for size in SIZES:
            _, top, _, bottom = shoot(size=size, motion="slides left", camera=camera).boxes_px.T
            heights[size] = bottom - top
        assert (heights["large"] / heights["small"]).min() > 1.5
        assert heights["large"].min() > heights["small"].max()


def test_motions_go_where_they_say(shoot):
    x, y = {}, {}
    for motion in MOTIONS:
        x[motion], y[motion] = shoot(motion=motion).centres_px.T
    assert (np.diff(x["slides left"]) < 0).all()
    assert (np.diff(x["slides right"]) > 0).all()
    assert np.ptp(x["slides left"]) > 30
    assert np.ptp(y["slides left"]) < 1
    assert y["falls"].argmin() == 0
    assert y["falls"][-1] - y["falls"][0] > 20
    landed = int(np.argmax(y["falls"] > y["falls"][-1] - 3))
    assert 0 < y["falls"][-1] - y["falls"][landed:].min() < 0.5 * (y["falls"][-1] - y["falls"][0])
    assert y["jumps"][0] - y["jumps"].min() > 10
    lows = [k for k in range(1, len(y["jumps"]) - 1) if y["jumps"][k - 1] < y["jumps"][k] >= y["jumps"][k + 1]]
    assert lows, "it lands and hops again"


def test_camera_moves_show_in_the_background(shoot):
    still, pan, zoom = (shoot(camera=camera, motion="falls", size="small") for camera in CAMERAS)
    top = [take.frames[:, :20, :24].astype(float) for take in (still, pan, zoom)]
    change = [np.abs(corner[-1] - corner[0]).mean() for corner in top]
    assert change[0] < 0.5
    assert min(change[1:]) > 3
    heights = {name: take.boxes_px[:, 3] - take.boxes_px[:, 1] for name, take in (("pan", pan), ("zoom", zoom))}
    assert heights["zoom"][-1] / heights["zoom"][0] > 1.4
    assert abs(heights["pan"][-1] / heights["pan"][0] - 1) < 0.15


def test_shadow_darkens_the_floor_under_a_falling_object(shoot):
    take = shoot(motion="falls", size="small", floor="white", camera="stays still")
    bottom = take.boxes_px[:, 3]
    assert bottom[0] < 60, "it is in the air, so the shadow lies apart from it"
    grey = take.frames.astype(int).mean(axis=-1)
    free = ~object_mask(take.frames[0]) & ~object_mask(take.frames[-1])
    assert (grey[0] - grey[-1])[free].min() < -15, "somewhere its shadow lay before and no longer does"


def test_first_frame_is_drawn(shoot):
    take = shoot(ticks=[0, 1], motion="slides left")
    assert np.abs(take.frames[0].astype(int) - take.frames[1]).mean() < 6


def test_same_plan_same_pixels_whatever_was_drawn_before(shoot):
    first = shoot(shape="cone", motion="jumps", camera="zooms in").frames
    shoot(shape="cube", floor="checkered", backdrop=0.5)
    assert np.array_equal(first, shoot(shape="cone", motion="jumps", camera="zooms in").frames)


def test_missing_egl_is_a_capacity_error():
    code = (
        "from data.worlds.camera import FrameSize\n"
        "from data.worlds.tabletop import Tabletop\n"
        "from model.errors import CapacityError\n"
        "try:\n    Tabletop(FrameSize(32, 32))\n"
        "except CapacityError as error:\n    raise SystemExit(0 if 'libegl1' in str(error) else 2)\n"
        "raise SystemExit(3)\n"
    )
    broken = os.environ | {"PYOPENGL_PLATFORM": "glx"}
    assert subprocess.run([sys.executable, "-c", code], env=broken, check=False, timeout=60).returncode == 0
