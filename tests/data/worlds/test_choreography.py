import itertools

import numpy as np
import pytest

from data.worlds.camera import FrameSize, camera_pose
from data.worlds.captions import CAMERAS, COUNTS, SHAPES, SIZES, Attributes
from data.worlds.choreography import plan_shot

DURATION_S = 2.25


def plans(frame, motion):
    rng = np.random.default_rng(2)
    for shape, size, camera, count in itertools.product(SHAPES, SIZES, CAMERAS, COUNTS):
        attributes = Attributes("red", shape, size, motion, "white", camera, count)
        yield plan_shot(attributes, DURATION_S, 0.8, frame, rng)


@pytest.mark.parametrize("frame", [FrameSize(128, 72), FrameSize(96, 96), FrameSize(72, 128)], ids=str)
class TestEveryMotionIsLargeEnoughToSee:
    @pytest.mark.parametrize(("motion", "sign"), [("slides left", -1), ("slides right", 1)])
    def test_slides(self, frame, motion, sign):
        for plan in plans(frame, motion):
            seen = plan.attributes
            first, last = (camera_pose(seen.camera, progress, frame, seen.count) for progress in (0, 1))
            end_m = np.array(plan.start_m) + np.array([plan.speed * DURATION_S, 0, 0])
            travel_px = last.project(end_m, frame)[0] - first.project(np.array(plan.start_m), frame)[0]
            assert sign * travel_px > (16 if seen.count == "one" else 8)
            assert plan.hop_speed == 0

    def test_falls(self, frame):
        for plan in plans(frame, "falls"):
            assert plan.start_m[2] > 0.45
            assert (plan.speed, plan.hop_speed) == (0, 0)

    def test_jumps(self, frame):
        for plan in plans(frame, "jumps"):
            assert plan.hop_speed > 1.4
            assert (plan.speed, plan.start_m[2]) == (0, 0)


def test_projection_of_the_point_looked_at_is_the_middle_and_zoom_scales():
    frame = FrameSize(96, 96)
    poses = [camera_pose("zooms in", progress, frame) for progress in (0, 0.5, 1)]
    spans = []
    for pose in poses:
        lookat = np.array(pose.lookat_m)
        assert pose.project(lookat, frame) == pytest.approx([48, 48])
        left, right = pose.project(lookat + np.array([[-0.5, 0, 0], [0.5, 0, 0]]), frame)
        assert left[1] == pytest.approx(right[1])
        spans.append(right[0] - left[0])
    assert spans == pytest.approx([spans[0] * pose.zoom / poses[0].zoom for pose in poses])
    assert spans[2] / spans[0] > 1.4


def test_panning_keeps_the_table_in_the_middle_and_the_background_goes_left():
    frame = FrameSize(96, 96)
    first, last = (camera_pose("pans right", progress, frame) for progress in (0, 1))
    behind = np.array([0, 2, 0])
    assert first.project(np.zeros(3), frame)[0] == last.project(np.zeros(3), frame)[0] == pytest.approx(48)
    assert first.project(behind, frame)[0] > 48 > last.project(behind, frame)[0]
