"""The tabletop: MuJoCo moves the objects, and draws them headless through EGL."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

# MuJoCo chooses its GL when it is first imported, and its default wants a display.
os.environ.setdefault("MUJOCO_GL", "egl")
# Mesa's rasteriser would start a thread per core in each of the processes that share the cores.
os.environ.setdefault("LP_NUM_THREADS", "0")

import mujoco as untyped_mujoco

from data.worlds.camera import DISTANCE_M, ELEVATION_DEG, CameraPose, FrameSize, camera_pose
from data.worlds.choreography import ShotPlan
from data.worlds.palette import COLOURS_RGB
from data.worlds.programme import TICKS_PER_S
from data.worlds.scenery import (
    NUM_SHADOW_LAYERS,
    SIMULATION_HZ,
    every_solid,
    geom_name,
    scene_assets,
    scene_xml,
    shadow_name,
)
from data.worlds.solids import MAX_COUNT
from model.errors import CapacityError

mujoco: Any = untyped_mujoco  # compiled, without stubs

_STEPS_PER_TICK = SIMULATION_HZ // TICKS_PER_S

# Drawn larger and averaged down: cheaper here than the renderer's own antialiasing.
_SUPERSAMPLE = 1.5

_LIGHT_TILT = 0.55  # horizontal over vertical part of the key light's direction


@dataclass(frozen=True)
class Take:
    """A rendered shot: `frames` uint8 T H W C; `boxes_px` T 4 as left, top, right, bottom; `centres_px` T 2."""

    frames: np.ndarray
    boxes_px: np.ndarray
    centres_px: np.ndarray


class Tabletop:
    """One compiled scene with one renderer for pictures of one size, reused for every shot.

    Raises:
        CapacityError: no EGL context can be made.
    """

    def __init__(self, frame: FrameSize) -> None:
        self._frame = frame
        self._model = mujoco.MjModel.from_xml_string(scene_xml(), scene_assets())
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        self._shadow_geoms = [
            [self._model.geom(shadow_name(member, layer)).id for layer in range(NUM_SHADOW_LAYERS)]
            for member in range(MAX_COUNT)
        ]
        try:
            self._renderer = mujoco.Renderer(
                self._model, height=int(frame.height * _SUPERSAMPLE), width=int(frame.width * _SUPERSAMPLE)
            )
        except Exception as error:  # PyOpenGL's errors share no base but this
            raise CapacityError(
                f"MuJoCo gets no EGL context here ({type(error).__name__}: {error}); install Mesa's EGL (Debian: "
                "libegl1 libgl1-mesa-dri), leave MUJOCO_GL and PYOPENGL_PLATFORM unset, or give your own videos "
                "with --source"
            ) from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_CULL_FACE] = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the GL context."""
        self._renderer.close()

    def shoot(self, plan: ShotPlan, ticks: Sequence[int]) -> Take:
        """The pictures of a shot at the given times, in ticks of 1/48 s from its start, ascending."""
        self._dress(plan)
        states = self._simulate(plan, ticks[-1] + 1)
        frames, boxes, centres = [], [], []
        for tick in ticks:
            progress = tick / (plan.duration_s * TICKS_PER_S)
            pose = camera_pose(plan.attributes.camera, progress, self._frame, plan.attributes.count)
            frames.append(self._draw(plan, states[tick], pose))
            middle = states[tick, :, :3].mean(axis=0)
            points = plan.solid.outline(plan.yaw_rad) + middle
            centre = middle + np.array([0, 0, plan.solid.height_m / 2])
            outline = pose.project(np.vstack([points, centre]), self._frame)
            boxes.append(np.concatenate([outline[:-1].min(axis=0), outline[:-1].max(axis=0)]))
            centres.append(outline[-1])
        return Take(np.stack(frames), np.stack(boxes), np.stack(centres))

    def _dress(self, plan: ShotPlan) -> None:
        model = self._model
        for solid in every_solid():
            shown = solid == plan.solid
            for member in range(len(solid.places_m)):
                geom = model.geom(geom_name(solid, member))
                geom.rgba = (*COLOURS_RGB[plan.colour_of(member)], float(shown))  # alpha 0 is not drawn at all
                geom.contype = int(shown)
        model.geom("floor").matid = model.material(plan.attributes.floor).id
        model.mat_rgba[model.material("wall").id, :3] = plan.backdrop
        model.light_dir[0] = _unit([*(_LIGHT_TILT * part for part in _light_travel(plan)), -1.0])

    def _simulate(self, plan: ShotPlan, num_ticks: int) -> np.ndarray:
        """Each member's x, y, z in metres and yaw in radians at each tick, `ticks members 4`."""
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        at, moves = data.qpos.reshape(MAX_COUNT, 4), data.qvel.reshape(MAX_COUNT, 4)
        num = len(plan.solid.places_m)
        at[:num, :3] = plan.start_m + plan.solid.places_m
        at[:num, 3] = plan.yaw_rad
        moves[:num, 0] = plan.speed
        mujoco.mj_forward(model, data)
        states = np.empty((num_ticks, num, 4))
        for tick in range(num_ticks):
            states[tick] = at[:num]
            if plan.hop_speed:
                on_floor = (at[:num, 2] < 0.04) & (moves[:num, 2] < plan.hop_speed * 0.8)
                moves[:num, 2][on_floor] = plan.hop_speed
            mujoco.mj_step(model, data, nstep=_STEPS_PER_TICK)
        return states

    def _draw(self, plan: ShotPlan, state: np.ndarray, pose: CameraPose) -> np.ndarray:
        model, data, camera = self._model, self._data, self._camera
        data.qpos.reshape(MAX_COUNT, 4)[: len(state)] = state
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        for member, geoms in enumerate(self._shadow_geoms):
            if member < len(state):
                self._cast_shadow(plan, state[member], geoms)
            else:
                model.geom_rgba[geoms, 3] = 0
        model.vis.global_.fovy = pose.fovy_deg(self._frame)
        camera.lookat[:] = pose.lookat_m
        camera.azimuth, camera.elevation, camera.distance = pose.azimuth_deg, -ELEVATION_DEG, DISTANCE_M
        self._renderer.update_scene(data, camera)
        large = self._renderer.render()
        return cv2.resize(large, (self._frame.width, self._frame.height), interpolation=cv2.INTER_AREA)

    def _cast_shadow(self, plan: ShotPlan, state: np.ndarray, geoms: list[int]) -> None:
        """Lays dark translucent ellipses under one member: softer than a shadow map, at a tenth of its cost."""
        model, data = self._model, self._data
        x_m, y_m, z_m = state[:3]
        radius_m, away = plan.solid.radius_m, _light_travel(plan)
        lean_m = _LIGHT_TILT * plan.solid.height_m * 0.5
        turn = (away[0], -away[1], 0, away[1], away[0], 0, 0, 0, 1)
        shift_m = _LIGHT_TILT * z_m + lean_m * 0.7
        for layer, geom in enumerate(geoms):
            spread = (layer + 1) / NUM_SHADOW_LAYERS
            soft_m = radius_m * (0.75 + spread * (0.45 + 0.5 * z_m))
            model.geom_size[geom] = (soft_m + lean_m * 0.6, soft_m, 0.0005)
            model.geom_rgba[geom, 3] = 0.16 / (1 + 1.1 * z_m)
            height_m = 0.004 + 0.002 * (NUM_SHADOW_LAYERS - layer)
            data.geom_xpos[geom] = (x_m + away[0] * shift_m, y_m + away[1] * shift_m, height_m)
            data.geom_xmat[geom] = turn


def _light_travel(plan: ShotPlan) -> tuple[float, float]:
    """The horizontal unit vector along which the key light travels: away from the viewer's side."""
    return -math.sin(plan.light_rad), math.cos(plan.light_rad)


def _unit(vector: Sequence[float]) -> np.ndarray:
    return np.asarray(vector) / np.linalg.norm(vector)
