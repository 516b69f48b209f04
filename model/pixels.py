"""Frames as people store them (uint8 `T H W C`) and video as networks see it (float `B C T H W` in [-1, 1])."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def to_video(clips: Sequence[np.ndarray]) -> Float[Tensor, "b c t h w"]:
    """One batch from clips of equal size, uint8 `T H W C` each."""
    batch = torch.from_numpy(np.stack(clips))
    return batch.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1)


def to_frames(video: Float[Tensor, "b c t h w"]) -> list[np.ndarray]:
    """The clips of a batch as uint8 `T H W C`, rounded and clipped."""
    pixels = video.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy())
