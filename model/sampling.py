"""The sampler: a generator over Euler steps, with frames that are given held fixed.

Every task is a pattern of given frames: none (text to video), the first (animation), a prefix or suffix (extension),
both ends (join). Given frames stay at noise level 0 while the others run from 1 to 0.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.diffusion import shift_sigma
from model.errors import ConfigError
from model.guidance import Guidance

Velocity = Callable[[Tensor, Tensor, bool], Tensor]
"""Maps (latents, sigma `B T`, is_conditional) to the velocity."""


@dataclass(frozen=True)
class SamplingProgress:
    """One finished denoising step; `step` counts from 1."""

    step: int
    num_steps: int


@dataclass(frozen=True)
class GivenFrames:
    """Latents to keep: values `B C T H W` (normalised) and the frames at which they hold."""

    latents: Float[Tensor, "b c t h w"]
    is_given: Bool[Tensor, " t"]


def sigma_schedule(num_steps: int, shift: float = 1.0) -> list[float]:
    """The `num_steps + 1` noise levels from 1 to 0 that the sampler visits.

    Raises:
        ConfigError: fewer than one step.
    """
    if num_steps < 1:
        raise ConfigError(f"num_steps={num_steps} makes no video; use 1 or more (20 is a good start)")
    return [float(shift_sigma(torch.tensor(1 - step / num_steps), shift)) for step in range(num_steps + 1)]


def seeded_noise(shape: tuple[int, ...], seeds: Sequence[int]) -> Float[Tensor, "b c t h w"]:
    """Noise in which each sample depends on its own seed alone, whatever else is in the batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def euler(
    velocity: Velocity,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Sequence[float],
    guidance: Guidance | None = None,
    given: GivenFrames | None = None,
) -> Generator[SamplingProgress, None, Float[Tensor, "b c t h w"]]:
    """Yields after each step; returns the clean latents."""
    x = noise
    is_free = torch.ones(noise.shape[2], dtype=torch.bool) if given is None else ~given.is_given
    keep = is_free[None, None, :, None, None]
    for step, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        x = x if given is None else torch.where(keep, x, given.latents.to(x))
        level = (sigma * is_free.float()).expand(len(x), -1)
        v = velocity(x, level, True)
        if guidance is not None:
            v = v + guidance.delta(v, velocity(x, level, False), sigma)
        x = x + (following - sigma) * v
        yield SamplingProgress(step, len(sigmas) - 1)
    return x if given is None else torch.where(keep, x, given.latents.to(x))
