"""The tabletop's model: MJCF with every solid in it, painted floors and a wall; one solid or group shows at a time."""

import io
import math

import numpy as np
from PIL import Image

from data.worlds.captions import COUNTS, FLOORS, SHAPES, SIZES
from data.worlds.solids import MAX_COUNT, Solid, ring

SIMULATION_HZ = 240
GRAVITY = 4.2  # metres per second squared: a toy's pace, so that a fall lasts several frames at 8 frames/s
MAX_SIDE_PX = 512
NUM_SHADOW_LAYERS = 4

_TILE_M = 1.1
_FLOOR_HALF_M = (8.4, 5.6)
_WALL_Y_M = 2.6
_WALL_HALF_M = (8.0, 3.6)
_TEXTURE_PX = 256

# Stiffness and damping of the contact (negative: direct values): a drop bounces to a third of its height.
_CONTACT = "-20000 -62"
_GHOST = 'contype="0" conaffinity="0"'  # seen, never touched


def every_solid() -> list[Solid]:
    """The eight solids, as they are alone and in groups."""
    return [Solid(shape, size, count) for count in COUNTS for size in SIZES for shape in SHAPES]


def geom_name(solid: Solid, member: int) -> str:
    """The geom that draws a solid as one member of its group, counted from 0."""
    return f"{solid.name} {member}"


def shadow_name(member: int, layer: int) -> str:
    """The geom that draws one layer of a member's shadow."""
    return f"shadow {member} {layer}"


def scene_xml() -> str:
    """The MJCF text; its textures are the names in `scene_assets`.

    The floor that one sees is a box: MuJoCo cuts a plane into so many pieces that it costs three quarters of a frame.
    """
    solids = every_solid()
    layers = "".join(
        f'<geom name="{shadow_name(member, layer)}" type="ellipsoid" size="1 1 .001" material="shadow" '
        f'rgba="0 0 0 0" {_GHOST}/>'
        for member in range(MAX_COUNT)
        for layer in range(NUM_SHADOW_LAYERS)
    )
    return f"""
    <mujoco model="tabletop">
      <compiler angle="radian" inertiafromgeom="false"/>
      <option timestep="{1 / SIMULATION_HZ}" gravity="0 0 {-GRAVITY}" integrator="implicitfast"/>
      <visual>
        <global offwidth="{MAX_SIDE_PX}" offheight="{MAX_SIDE_PX}"/>
        <quality shadowsize="0" offsamples="0" numslices="24" numstacks="8" numquads="1"/>
        <headlight ambient=".42 .42 .42" diffuse=".22 .22 .22" specular="0 0 0"/>
        <map znear=".02" zfar="40"/>
      </visual>
      <asset>
        {"".join(_material(name) for name in (*FLOORS, "wall"))}
        <material name="shadow" specular="0" shininess="0"/>
        <material name="solid" specular=".35" shininess=".6"/>
        {"".join(_cone_mesh(solid) for solid in solids if solid.shape == "cone")}
      </asset>
      <worldbody>
        <light name="key" directional="true" castshadow="false" dir="0 .5 -1" diffuse=".52 .52 .52"
          specular=".5 .5 .5"/>
        <geom name="ground" type="plane" size="8 8 1" rgba="0 0 0 0" contype="0" conaffinity="1" condim="1"
          solref="{_CONTACT}"/>
        <geom name="floor" type="box" size="{_FLOOR_HALF_M[0]} {_FLOOR_HALF_M[1]} .05" pos="0 0 -.05"
          material="white" {_GHOST}/>
        <geom name="wall" type="box" size="{_WALL_HALF_M[0]} {_WALL_HALF_M[1]} .05" euler="{math.pi / 2} 0 0"
          pos="0 {_WALL_Y_M} {_WALL_HALF_M[1]}" material="wall" {_GHOST}/>
        {layers}
        {"".join(_body(solids, member) for member in range(MAX_COUNT))}
      </worldbody>
    </mujoco>"""


def _body(solids: list[Solid], member: int) -> str:
    return f"""
        <body name="thing {member}">
          <inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/>
          <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
          <joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 0 1"/>
          {"".join(_geom(solid, member) for solid in solids if member < len(solid.places_m))}
        </body>"""


def _geom(solid: Solid, member: int) -> str:
    radius_m, half_m = solid.radius_m, solid.height_m / 2
    form = {
        "ball": f'type="sphere" size="{radius_m}"',
        "cube": f'type="box" size="{radius_m} {radius_m} {half_m}"',
        "cylinder": f'type="cylinder" size="{radius_m} {half_m}"',
        "cone": f'type="mesh" mesh="{solid.name}"',
    }[solid.shape]
    base_z_m = 0 if solid.shape == "cone" else half_m
    return (
        f'<geom name="{geom_name(solid, member)}" {form} pos="0 0 {base_z_m}" material="solid" rgba="1 1 1 0" '
        f'contype="1" conaffinity="0" condim="1" solref="{_CONTACT}"/>'
    )


def _cone_mesh(solid: Solid) -> str:
    points = np.concatenate([ring(solid.radius_m, 0, 32), [[0, 0, solid.height_m]]])
    return f'<mesh name="{solid.name}" vertex="{" ".join(f"{value:.5f}" for value in points.ravel())}"/>'


def _material(name: str) -> str:
    repeat = {"wall": (1, 1)}.get(name) or tuple(half_m / _TILE_M for half_m in _FLOOR_HALF_M)
    return (
        f'<texture name="{name}" type="2d" file="{name}.png"/>'
        f'<material name="{name}" texture="{name}" texrepeat="{repeat[0]} {repeat[1]}" specular="0" shininess="0"/>'
    )


def scene_assets() -> dict[str, bytes]:
    """The textures as PNG files by name: one square of two by two tiles per floor, and the wall's panels."""
    paintings = {
        "white": _tiles(0.92, 0.92, line=0.76),
        "dark": _tiles(0.27, 0.27, line=0.38),
        "checkered": _tiles(0.78, 0.42, line=None),
        "wall": _panels(),
    }
    return {f"{name}.png": _png(grey) for name, grey in paintings.items()}


def _tiles(light: float, dark: float, *, line: float | None) -> np.ndarray:
    half = _TEXTURE_PX // 2
    rows, columns = np.indices((_TEXTURE_PX, _TEXTURE_PX)) // half
    grey = np.where((rows + columns) % 2 == 0, light, dark)
    if line is not None:
        across = np.abs(np.arange(_TEXTURE_PX) % half - half / 2) > half / 2 - half * 0.05
        grey[across[:, None] | across[None, :]] = line
    return grey


def _panels() -> np.ndarray:
    """Broad soft upright panels, so that a moving camera shows, on a wall that darkens a little upward."""
    num_panels = 10
    phase = np.arange(4 * _TEXTURE_PX) / (4 * _TEXTURE_PX) * num_panels % 1
    panels = 1 - 0.1 * np.clip((np.abs(phase - 0.5) - 0.25) * 12 + 0.5, 0, 1)
    upward = np.linspace(0.86, 1, _TEXTURE_PX)
    return upward[:, None] * panels[None, :]


def _png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    pixels = np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=-1)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
