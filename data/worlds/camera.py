"""The tabletop's camera: three moves, and where a point of the scene lands in the picture."""

import math
from dataclasses import dataclass

import numpy as np

DISTANCE_M = 4.6
ELEVATION_DEG = 15.0

# A metre at the object spans the same pixels in every aspect, since the three raw sizes shrink to their buckets by
# the same factor.
FOCAL_PX = 152.0

# The camera stands back for a group.
_GROUP_ZOOM = {"one": 1.0, "two": 0.82, "three": 0.72}

_STRAIGHT_AHEAD_DEG = 90.0  # MuJoCo's azimuth that looks along +y
_PAN_DEG = 40.0
_ZOOM_FROM, _ZOOM_TO = 0.76, 1.18


@dataclass(frozen=True)
class FrameSize:
    """A picture's width, height and focal length in pixels."""

    width: int
    height: int
    focal_px: float = FOCAL_PX


def scaled(frame: FrameSize, factor: float) -> FrameSize:
    """The same view in a picture of `factor` times the sides, which are kept even."""
    width, height = (2 * round(side * factor / 2) for side in (frame.width, frame.height))
    return FrameSize(width, height, frame.focal_px * factor)


@dataclass(frozen=True)
class CameraPose:
    """Where the camera is: its azimuth in MuJoCo's degrees, its zoom (1 is plain) and the point it looks at."""

    azimuth_deg: float
    zoom: float
    lookat_m: tuple[float, float, float]

    def fovy_deg(self, frame: FrameSize) -> float:
        """The vertical field of view."""
        return math.degrees(2 * math.atan(frame.height / 2 / (frame.focal_px * self.zoom)))

    def project(self, points_m: np.ndarray, frame: FrameSize) -> np.ndarray:
        """Pixel coordinates (x right, y down, from the top left corner) of points ... 3 in metres: ... 2."""
        ahead, right, up = self._axes()
        offsets = points_m - np.asarray(self.lookat_m) + DISTANCE_M * ahead
        scale = frame.focal_px * self.zoom / (offsets @ ahead)
        return np.stack(
            [frame.width / 2 + scale * (offsets @ right), frame.height / 2 - scale * (offsets @ up)], axis=-1
        )

    def _axes(self) -> np.ndarray:
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(-ELEVATION_DEG)
        cos_a, sin_a, cos_e, sin_e = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
        ahead = (cos_e * cos_a, cos_e * sin_a, sin_e)
        right = (sin_a, -cos_a, 0.0)
        up = (-sin_e * cos_a, -sin_e * sin_a, cos_e)
        return np.array([ahead, right, up])


def camera_pose(move: str, progress: float, frame: FrameSize, count: str = "one") -> CameraPose:
    """The camera at `progress` (0 to 1) through a shot of `count` objects whose `move` is one of captions.CAMERAS.

    The point it looks at keeps the table's centre at one height of the picture while it zooms.
    """
    # It circles the table while its gaze turns to the right, so the background goes to the left.
    pan = _PAN_DEG * (0.5 - progress) if move == "pans right" else 0.0
    zoom = _ZOOM_FROM * (_ZOOM_TO / _ZOOM_FROM) ** progress if move == "zooms in" else 1.0
    zoom *= _GROUP_ZOOM[count]
    half_height_m = frame.height / 2 * DISTANCE_M / frame.focal_px
    # Leaves a sixth of the picture's height, and a little more of a tall one, below the object's base.
    below_m = 0.17 * 2 * half_height_m + 0.08 * (half_height_m - 1)
    return CameraPose(_STRAIGHT_AHEAD_DEG + pan, zoom, (0.0, 0.0, (half_height_m - below_m) / zoom))
