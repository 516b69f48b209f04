"""From what a shot must show to a start state that keeps the object in view from its first frame to its last."""

import math
from dataclasses import dataclass

import numpy as np

from data.worlds.camera import CameraPose, FrameSize, camera_pose
from data.worlds.captions import Attributes
from data.worlds.scenery import GRAVITY
from data.worlds.solids import Solid

# Ingest may cut a wide picture to the bucket's aspect: keep clear of its sides.
_SIDE_MARGIN = 0.065
_TOP_MARGIN, _BOTTOM_MARGIN = 0.035, 0.015
_MAX_SLIDE_M = 1.5
_MAX_FALL_M = 1.7
_MAX_HOP_M = 0.62


@dataclass(frozen=True)
class ShotPlan:
    """Everything that decides a shot's pixels, apart from its frame times; lengths in metres, angles in radians.

    `hop_speed` in metres per second is 0 unless the object jumps; `backdrop` is the wall's brightness, 0 to 1;
    `light_rad` is the direction that the key light comes from.
    """

    attributes: Attributes
    duration_s: float
    start_m: tuple[float, float, float]
    speed: float
    hop_speed: float
    yaw_rad: float
    backdrop: float
    light_rad: float
    second_colour: str | None = None
    """Of a group's second member, where it is not like the others: no film shows such a group."""

    def colour_of(self, member: int) -> str:
        """The colour of one member of the group, counted from 0."""
        return self.second_colour if member == 1 and self.second_colour else self.attributes.colour

    @property
    def solid(self) -> Solid:
        """The object, or one of the group."""
        return solid_of(self.attributes)


def solid_of(attributes: Attributes) -> Solid:
    """The object, or one of the group."""
    return Solid(attributes.shape, attributes.size, attributes.count)


def plan_shot(
    attributes: Attributes, duration_s: float, backdrop: float, frame: FrameSize, rng: np.random.Generator
) -> ShotPlan:
    """A shot that shows `attributes`, with small random differences, inside the picture throughout."""
    yaw_rad = rng.uniform(0.15, math.pi / 2 - 0.15)
    first, last = (camera_pose(attributes.camera, progress, frame, attributes.count) for progress in (0.0, 1.0))
    x_m, y_m, z_m = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1), 0.0
    speed = hop_speed = 0.0
    outline = solid_of(attributes).outline(yaw_rad) + np.array([x_m, y_m, 0])
    if attributes.motion.startswith("slides"):
        x_m, speed = _slide(attributes.motion, outline - np.array([x_m, 0, 0]), duration_s, (first, last), frame, rng)
    elif attributes.motion == "falls":
        z_m = rng.uniform(0.9, 1) * _reach(outline, 2, _MAX_FALL_M, (first,), frame)
    else:
        hop_m = rng.uniform(0.85, 1) * _reach(outline, 2, _MAX_HOP_M, (first, last), frame)
        hop_speed = math.sqrt(2 * GRAVITY * hop_m)
    light_rad = rng.uniform(-0.9, 0.9)
    return ShotPlan(attributes, duration_s, (x_m, y_m, z_m), speed, hop_speed, yaw_rad, backdrop, light_rad)


def _slide(
    motion: str,
    outline_m: np.ndarray,
    duration_s: float,
    poses: tuple[CameraPose, CameraPose],
    frame: FrameSize,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Where a slide starts and how fast it goes along x, so that it crosses most of the picture in the shot."""
    sign = -1 if motion == "slides left" else 1
    before_m = rng.uniform(0.85, 1) * _reach(outline_m, 0, -sign * _MAX_SLIDE_M, poses[:1], frame)
    after_m = rng.uniform(0.85, 1) * _reach(outline_m, 0, sign * _MAX_SLIDE_M, poses[1:], frame)
    return -sign * before_m, sign * (before_m + after_m) / duration_s


def _reach(outline_m: np.ndarray, axis: int, limit_m: float, poses: tuple[CameraPose, ...], frame: FrameSize) -> float:
    """How far, up to |limit_m|, the outline can move along an axis in the limit's direction and stay in view."""
    shifts = np.zeros((64, 1, 3))
    shifts[:, 0, axis] = np.linspace(0, limit_m, 64)
    in_view = np.ones(64, dtype=bool)
    for pose in poses:
        x, y = np.moveaxis(pose.project(outline_m + shifts, frame), -1, 0)
        x, y = x / frame.width, y / frame.height
        in_view &= ((x >= _SIDE_MARGIN) & (x <= 1 - _SIDE_MARGIN)).all(axis=1)
        in_view &= ((y >= _TOP_MARGIN) & (y <= 1 - _BOTTOM_MARGIN)).all(axis=1)
    num_in_view = int(np.argmin(np.append(in_view, False)))
    return abs(limit_m) * max(num_in_view - 1, 0) / 63
