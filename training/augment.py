"""Small changes to a clip that leave its meaning: so that few labelled clips go further."""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_SHIFT_PX = 6
BRIGHTNESS = 0.2


def jitter(video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
    """The clips with brightness, contrast and place changed a little, one draw per clip from torch's generator."""
    count, height, width = len(video), video.shape[3], video.shape[4]
    gain, bias = (BRIGHTNESS * (torch.rand(count, 1, 1, 1, 1) - 0.5) for _ in range(2))
    padded = torch.nn.functional.pad(video.flatten(1, 2), (LARGEST_SHIFT_PX,) * 4, mode="replicate").view(
        *video.shape[:3], height + 2 * LARGEST_SHIFT_PX, width + 2 * LARGEST_SHIFT_PX
    )
    corners = torch.randint(2 * LARGEST_SHIFT_PX + 1, (count, 2)).tolist()
    moved = [clip[..., y : y + height, x : x + width] for clip, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(moved) * (1 + gain) + bias
