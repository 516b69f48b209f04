"""Rectified flow with a noise level per latent frame.

The convention of the whole project: `x_sigma = (1 - sigma) * x0 + sigma * noise`, `velocity = noise - x0`, and sampling
runs sigma from 1 (noise) to 0 (data). FLUX, LTX-Video and torchtitan use the same; SiT runs the other way.
Source: Rectified Flow (arXiv 2209.03003); logit-normal levels from Stable Diffusion 3 (arXiv 2403.03206).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.config import Config


class NoisePatterns(Config):
    """How often each pattern of given frames is drawn in training; what is left is all frames at one level."""

    prefix: float = 0.1
    suffix: float = 0.05
    both_ends: float = 0.05


class NoiseLevels(NamedTuple):
    """The noise level of each latent frame, and which frames are to be predicted."""

    sigma: Float[Tensor, "b t"]
    is_noisy: Bool[Tensor, "b t"]


def add_noise(
    x0: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]
) -> Float[Tensor, "b c t h w"]:
    """Latents at their frame's noise level."""
    level = sigma[:, None, :, None, None].to(x0.dtype)
    return (1 - level) * x0 + level * noise


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards 1 by `shift` > 1, as larger grids need. Source: arXiv 2403.03206, equation 23."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_levels(
    batch: int, num_frames: int, patterns: NoisePatterns, generator: torch.Generator, *, shift: float = 1.0
) -> NoiseLevels:
    """Training levels: one logit-normal sigma per sample; frames that the drawn pattern gives stay clean (sigma 0)."""
    level = shift_sigma(torch.randn(batch, generator=generator).sigmoid(), shift)
    is_noisy = torch.ones(batch, num_frames, dtype=torch.bool)
    if num_frames > 1:
        kind = torch.rand(batch, generator=generator)
        length = torch.randint(1, num_frames, (batch,), generator=generator)
        for row in range(batch):
            _mark_given(is_noisy[row], float(kind[row]), int(length[row]), patterns)
    return NoiseLevels(level[:, None] * is_noisy, is_noisy)


def _mark_given(is_noisy: Bool[Tensor, " t"], kind: float, length: int, patterns: NoisePatterns) -> None:
    """Clear the flags of the frames that are given; at least one frame stays noisy."""
    if kind < patterns.prefix:
        is_noisy[:length] = False
    elif kind < patterns.prefix + patterns.suffix:
        is_noisy[-length:] = False
    elif kind < patterns.prefix + patterns.suffix + patterns.both_ends and len(is_noisy) > 2:
        is_noisy[: max(1, length // 2)] = False
        is_noisy[-1:] = False


def velocity_loss(
    predicted: Float[Tensor, "b c t h w"],
    x0: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    is_noisy: Bool[Tensor, "b t"],
) -> Float[Tensor, ""]:
    """The mean squared velocity error over the frames that were to be predicted."""
    error = (predicted.float() - (noise - x0)).square().mean(dim=(1, 3, 4))
    return (error * is_noisy).sum() / is_noisy.sum()
