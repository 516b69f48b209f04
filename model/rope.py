"""Rotary position embedding along three axes: time, height and width.

Source: RoFormer (arXiv 2104.09864), split over axes as in FLUX and LTX-Video.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model.errors import ConfigError
from model.shapes import LatentShape


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels turn with time, height and width: even numbers that sum to `head_dim`.

    Raises:
        ConfigError: the head is too small or odd.
    """
    spatial = head_dim * 3 // 8 // 2 * 2
    temporal = head_dim - 2 * spatial
    if head_dim % 2 or min(temporal, spatial) < 2:
        raise ConfigError(f"head_dim={head_dim} cannot be split over three axes; use an even number of 8 or more")
    return temporal, spatial, spatial


def positions(grid: LatentShape, device: torch.device | None = None) -> Float[Tensor, "n 3"]:
    """The (time, row, column) of each cell of the grid in `T H W` order, centred in space.

    Centring keeps the middle of the picture at the origin at every size and aspect. Time begins at 1: text has no
    position, so to a query it lies at the origin of every axis, before the first frame.
    """
    time = torch.arange(grid.num_frames, device=device, dtype=torch.float32) + 1
    rows = torch.arange(grid.height, device=device, dtype=torch.float32) - (grid.height - 1) / 2
    columns = torch.arange(grid.width, device=device, dtype=torch.float32) - (grid.width - 1) / 2
    return torch.stack(torch.meshgrid(time, rows, columns, indexing="ij"), dim=-1).reshape(-1, 3)


def rotation(position: Float[Tensor, "n 3"], head_dim: int, base: float = 100.0) -> Float[Tensor, "2 n half"]:
    """Cosines and sines for each token and channel pair; `base` is small as grids are tens of cells, not thousands."""
    angles = []
    for axis, dim in enumerate(axis_dims(head_dim)):
        frequency = base ** (-torch.arange(0, dim, 2, device=position.device, dtype=torch.float32) / dim)
        angles.append(position[:, axis, None] * frequency)
    angle = torch.cat(angles, dim=-1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "b h n d"], turn: Float[Tensor, "2 n half"]) -> Float[Tensor, "b h n d"]:
    """Each channel pair (i, i + d/2) of `x` turned by its token's angle."""
    cosine, sine = turn.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
