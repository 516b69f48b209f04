"""Editing without inversion: a video moves along the difference of what two prompts ask for.

Source: FlowEdit (arXiv 2412.08629).
"""

from collections.abc import Generator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from model.diffusion import add_noise
from model.guidance import Guidance, guided
from model.sampling import SamplingProgress, Start, Velocity


@torch.no_grad()
def flow_edit(
    target: Velocity,
    source: Velocity,
    start: Start,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Sequence[float],
    guidances: Sequence[Guidance] = (),
) -> Generator[SamplingProgress, None, Float[Tensor, "b c t h w"]]:
    """Yields after each step; returns the edited latents. Levels above a frame's strength change nothing there.

    The source is guided as the target is; to guide it less, as the paper does, moves what should stay.
    """
    original = start.latents.to(noise).expand_as(noise)
    edited = original.clone()
    for step, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        moves = (start.strength >= sigma).to(noise)
        if bool(moves.any()):
            levels = torch.full((len(noise), noise.shape[2]), sigma)
            noisy = add_noise(original, noise, levels)
            moved = edited + noisy - original
            towards = guided(lambda c, x=moved, s=levels: target(x, s, c), guidances, sigma)
            away = guided(lambda c, x=noisy, s=levels: source(x, s, c), guidances, sigma)
            edited = edited + (following - sigma) * moves[:, None, None] * (towards - away)
        yield SamplingProgress(step, len(sigmas) - 1)
    return edited
