"""The four solids of the tabletop in two sizes, and how several stand: metres, and the points of their outlines."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

HEIGHTS_M = {"small": 0.68, "large": 1.06}

# Of a solid's nominal height. The cube is lower, so that no shape is the largest by far; the cylinder is slim,
# so that its outline is not the cube's.
_HEIGHT = {"ball": 1.0, "cube": 0.84, "cylinder": 1.06, "cone": 1.1}
_RADIUS = {"ball": 0.5, "cube": 0.42, "cylinder": 0.38, "cone": 0.53}

# Members of a group are smaller, so that it fits into a tall picture, and stand in a slanted row: places x, y in
# nominal heights.
_GROUP_SCALE = {"one": 1.0, "two": 0.76, "three": 0.58}
_PLACES = {
    "one": ((0.0, 0.0),),
    "two": ((-0.5, -0.2), (0.5, 0.2)),
    "three": ((-0.95, -0.35), (0.0, 0.0), (0.95, 0.35)),
}
MAX_COUNT = max(len(places) for places in _PLACES.values())

_NUM_RING = 24


@dataclass(frozen=True)
class Solid:
    """A solid that stands on its origin. `radius_m` is the ball's, cylinder's or cone's, or half the cube's side."""

    shape: str
    size: str
    count: str = "one"

    @property
    def name(self) -> str:
        """The name of its form: solids of one name look alike."""
        return f"{self.size} {self.shape} of {self.count}"

    @property
    def nominal_m(self) -> float:
        """The height that its measures are shares of."""
        return HEIGHTS_M[self.size] * _GROUP_SCALE[self.count]

    @property
    def height_m(self) -> float:
        """From its base to its top."""
        return self.nominal_m * _HEIGHT[self.shape]

    @property
    def radius_m(self) -> float:
        """Half its width at the base (of the cube: at a side)."""
        return self.nominal_m * _RADIUS[self.shape]

    @property
    def places_m(self) -> np.ndarray:
        """Where the members of its group stand around the group's middle, N 3."""
        return np.array([(x, y, 0.0) for x, y in _PLACES[self.count]]) * self.nominal_m

    def outline(self, yaw_rad: float = 0.0) -> np.ndarray:
        """Points on the group's surfaces, N 3 in metres, whose projections span the same box as the group."""
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        points = _points(self) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        return (self.places_m[:, None] + points).reshape(-1, 3)


def ring(radius_m: float, z_m: float, num_points: int = _NUM_RING) -> np.ndarray:
    """Points of a level circle around the vertical axis, N 3."""
    angles = np.linspace(0, 2 * math.pi, num_points, endpoint=False)
    return np.stack([radius_m * np.cos(angles), radius_m * np.sin(angles), np.full_like(angles, z_m)], axis=1)


@lru_cache
def _points(solid: Solid) -> np.ndarray:
    radius_m, height_m = solid.radius_m, solid.height_m
    if solid.shape == "cube":
        sides_m = (-radius_m, radius_m)
        return np.array(list(itertools.product(sides_m, sides_m, (0.0, height_m))))
    if solid.shape == "cylinder":
        return np.concatenate([ring(radius_m, 0), ring(radius_m, height_m)])
    if solid.shape == "cone":
        return np.concatenate([ring(radius_m, 0), [[0, 0, height_m]]])
    latitudes = np.linspace(-math.pi / 2, math.pi / 2, 13)
    return np.concatenate([ring(radius_m * math.cos(a), radius_m * (1 + math.sin(a))) for a in latitudes])
