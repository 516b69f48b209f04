"""Small changes to a clip that leave its meaning: so that few labelled clips go further."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LARGEST_SHIFT_PX = 6
BRIGHTNESS = 0.2


def jitter(video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
    """The clips with brightness, contrast and place changed a little, one draw per clip from torch's generator."""
    count, height, width = len(video), video.shape[3], video.shape[4]
    gain, bias = (BRIGHTNESS * (torch.rand(count, 1, 1, 1, 1) - 0.5) for _ in range(2))
    corners = torch.randint(2 * LARGEST_SHIFT_PX + 1, (count, 2)).tolist()
    padded = _padded(video)
    moved = [clip[..., y : y + height, x : x + width] for clip, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(moved) * (1 + gain) + bias


def shifted(video: Float[Tensor, "b 3 t h w"], shift_px: int) -> list[Float[Tensor, "b 3 t h w"]]:
    """Nine views of the clips: as they are, and moved by `shift_px` in the eight directions."""
    height, width = video.shape[3:]
    padded, offsets = _padded(video), [LARGEST_SHIFT_PX + step * shift_px for step in (-1, 0, 1)]
    return [padded[..., y : y + height, x : x + width] for y in offsets for x in offsets]


def _padded(video: Float[Tensor, "b 3 t h w"]) -> Tensor:
    """The clips with their borders repeated outward, far enough for every shift."""
    rim = nn.functional.pad(video.flatten(1, 2), (LARGEST_SHIFT_PX,) * 4, mode="replicate")
    return rim.unflatten(1, video.shape[1:3])
