"""Frames as people store them (uint8 `T H W C`) and video as networks see it (float `B C T H W` in [-1, 1])."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def to_video(clips: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Float[Tensor, "b c t h w"]:
    """One batch on a device, from clips of equal size, uint8 `T H W C` each."""
    batch = torch.from_numpy(np.stack(clips)).to(device)  # as bytes: a quarter of the way
    return batch.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1)


def covering(video: Float[Tensor, "b c t h w"], height: int, width: int) -> Float[Tensor, "b c t height width"]:
    """The video scaled until it covers the size, its aspect kept, and cut in the middle."""
    scale = max(height / video.shape[3], width / video.shape[4])
    size = [max(height, round(video.shape[3] * scale)), max(width, round(video.shape[4] * scale))]
    frames = video.transpose(1, 2).flatten(0, 1)
    frames = functional.interpolate(frames, size, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    frames = frames[..., top : top + height, left : left + width]
    return frames.unflatten(0, (len(video), video.shape[2])).transpose(1, 2)


def to_frames(video: Float[Tensor, "b c t h w"]) -> list[np.ndarray]:
    """The clips of a batch as uint8 `T H W C`, rounded and clipped."""
    pixels = video.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy())


def cells_of(mask: np.ndarray, grid: Sequence[int], *, has_uniform_groups: bool) -> Bool[Tensor, "t h w"]:
    """The latent cells that a masked pixel, bool `T H W`, lies in; without uniform groups the first frame is one."""
    pixels = torch.from_numpy(mask.astype(np.float32))[None]
    if has_uniform_groups:
        return functional.adaptive_max_pool3d(pixels, tuple(grid))[0] > 0
    first, rest = pixels[:, :1], pixels[:, 1:]
    parts = [functional.adaptive_max_pool3d(first, (1, *grid[1:]))]
    if grid[0] > 1:
        parts.append(functional.adaptive_max_pool3d(rest, (grid[0] - 1, *grid[1:])))
    return torch.cat(parts, dim=1)[0] > 0
