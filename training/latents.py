"""What makes latents easy to diffuse: losses and corruptions of the autoencoder's training, each a recipe's field.

Shapes: latents `B C T H W`, video `B 3 T H W`.
"""

import torch
from torch import Tensor
from torch.nn import functional


def noisy(latents: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Latents with noise of up to `most` deviations, a level per clip: decoders learn to mend what a sampler leaves.

    Source: the decoder of LTX-Video (arXiv 2501.00103) takes the last denoising step likewise.
    """
    level = most * torch.rand(len(latents), 1, 1, 1, 1, generator=generator, device=latents.device)
    deviation = latents.std(dim=(0, 2, 3, 4), keepdim=True)
    return latents + level * deviation * torch.randn(latents.shape, generator=generator, device=latents.device)


def masked(latents: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Latents in which a share of the cells, all channels at once, is the mean: neighbours must know of each other."""
    shape = (len(latents), 1, *latents.shape[2:])
    is_hidden = torch.rand(shape, generator=generator, device=latents.device) < fraction
    return torch.where(is_hidden, latents.mean(dim=(0, 2, 3, 4), keepdim=True), latents)


def roughness(latents: Tensor) -> Tensor:
    """1 less the mean correlation of each cell with its right and lower neighbours: high frequencies cost."""
    mean = latents.mean(dim=(0, 2, 3, 4), keepdim=True)
    deviation = latents.std(dim=(0, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    z = (latents - mean) / deviation
    across, down = (z[..., 1:] * z[..., :-1]).mean(), (z[..., 1:, :] * z[..., :-1, :]).mean()
    return 1 - (across + down) / 2


def halved(values: Tensor) -> Tensor:
    """Video or latents at half the width and height, by means of 2 x 2.

    Scale equivariance (arXiv 2502.14831): halved latents should decode to the halved video.
    """
    frames = functional.avg_pool2d(values.transpose(1, 2).flatten(0, 1), 2)
    return frames.unflatten(0, (len(values), values.shape[2])).transpose(1, 2)
