"""Rectified flow with a noise level per latent frame.

The convention of the whole project: `x_sigma = (1 - sigma) * x0 + sigma * noise`, `velocity = noise - x0`, and sampling
runs sigma from 1 (noise) to 0 (data). FLUX, LTX-Video and torchtitan use the same; SiT runs the other way.
Source: Rectified Flow (arXiv 2209.03003); logit-normal levels from Stable Diffusion 3 (arXiv 2403.03206).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.noise_patterns import PATTERNS, NoisePatterns


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
    """Training levels: logit-normal, one per sample or one per frame as the drawn pattern says; given frames near 0."""
    level = shift_sigma(torch.randn(batch, generator=generator).sigmoid(), shift)[:, None]
    apart = shift_sigma(torch.randn(batch, num_frames, generator=generator).sigmoid(), shift)
    names = draw_names(batch, patterns, generator)
    is_noisy = ~draw_given(names, num_frames, generator)
    sigma = torch.where(_is(names, "independent"), apart, level)
    sigma = torch.where(_is(names, "ramp"), ramped(level, num_frames, generator), sigma)
    some = torch.rand(batch, 1, generator=generator) < patterns.noisy_given
    given_sigma = patterns.max_given_sigma * torch.rand(batch, 1, generator=generator) * some
    return NoiseLevels(torch.where(is_noisy, sigma, given_sigma), is_noisy)


def draw_names(batch: int, patterns: NoisePatterns, generator: torch.Generator) -> list[str]:
    """The pattern of each sample."""
    shares = torch.tensor([getattr(patterns, name) for name in PATTERNS])
    ends = shares.cumsum(0)
    places = torch.searchsorted(ends, torch.rand(batch, generator=generator), right=True)
    return [PATTERNS[place] if place < len(PATTERNS) else "together" for place in places.tolist()]


def draw_given(names: Sequence[str], num_frames: int, generator: torch.Generator) -> Bool[Tensor, "b t"]:
    """Which frames each sample's pattern gives; at least one frame is left to be made."""
    frame = torch.arange(num_frames)[None]
    if num_frames == 1:
        return torch.zeros(len(names), 1, dtype=torch.bool)
    length = torch.randint(1, num_frames, (len(names), 1), generator=generator)
    tail = torch.randint(1, max(2, num_frames - 1), (len(names), 1), generator=generator)
    head = (length // 2).clamp(min=1)
    is_end = (frame < head) | (frame >= num_frames - torch.minimum(tail, num_frames - head - 1))
    given = _is(names, "prefix") & (frame < length)
    given |= _is(names, "suffix") & (frame >= num_frames - length)
    return given | (_is(names, "both_ends") & is_end & (num_frames > 2))


def ramped(level: Float[Tensor, "b 1"], num_frames: int, generator: torch.Generator) -> Float[Tensor, "b t"]:
    """Levels that rise (or, in half of the samples, fall) through a sample's own level in the middle of the clip."""
    time = torch.linspace(-0.5, 0.5, num_frames)[None] if num_frames > 1 else torch.zeros(1, 1)
    slope = 2 * torch.rand(len(level), 1, generator=generator) - 1
    return (level + slope * time).clamp(1e-3, 1 - 1e-3)


def _is(names: Sequence[str], name: str) -> Bool[Tensor, "b 1"]:
    return torch.tensor([other == name for other in names])[:, None]


def velocity_loss(
    predicted: Float[Tensor, "b c t h w"],
    x0: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    is_noisy: Bool[Tensor, "b t"],
    num_noisy: float | Tensor | None = None,
) -> Float[Tensor, ""]:
    """The mean squared velocity error over the frames that were to be predicted, or over `num_noisy` if it is given."""
    error = (predicted.float() - (noise - x0)).square().mean(dim=(1, 3, 4))
    return (error * is_noisy).sum() / (is_noisy.sum() if num_noisy is None else num_noisy)
