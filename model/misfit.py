"""How badly a text explains a video: by how much the velocity under the text misses the true one.

Source: diffusion models as classifiers (arXiv 2303.16203); one noise and its opposite, in place of many, are our own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model.diffusion import add_noise
from model.views import Velocity


@torch.no_grad()
def misfit(
    velocity: Velocity, latents: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], level: float
) -> Float[Tensor, "b t h w"]:
    """The squared error of each cell, mean over its channels; `level` is how far the latents are noised."""
    levels = torch.full((len(noise), noise.shape[2]), level)
    ways = [(add_noise(latents, way, levels), way - latents) for way in (noise, -noise)]
    return torch.stack([(velocity(noisy, levels, "full") - true).square().mean(1) for noisy, true in ways]).mean(0)
