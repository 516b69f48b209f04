"""Editing without inversion: a video moves along the difference of two prompts, where the first one describes it.

Source: FlowEdit (arXiv 2412.08629); to leave alone what the source text does not describe is our own (decision 0019).
"""

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from model.diffusion import add_noise
from model.guidance import Guidance, guided
from model.misfit import misfit
from model.sampling import SamplingProgress, Start
from model.views import Velocity

REGION_LEVEL = 0.5
"""The noise level at which texts are compared: what is there still shows, and a text still says something of it."""
REGION_SLACK = 0.1
"""How much worse than the shared words the source text may explain what it describes, in variances of the latents."""
REGION_CELLS = 3
"""Cells on each side over which that is averaged: one alone is soon taken for another."""


class EditTexts(NamedTuple):
    """The network under the text that is asked for, under that of what is there, and under what both say."""

    target: Velocity
    source: Velocity
    shared: Velocity


def shared_words(source: str, target: str) -> str:
    """The words of the source text that the target text has too, in their order."""
    words = {word.strip(",.") for word in target.split()}
    return " ".join(word for word in source.split() if word.strip(",.") in words)


@torch.no_grad()
def flow_edit(
    texts: EditTexts,
    start: Start,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Sequence[float],
    guidances: Sequence[Guidance] = (),
) -> Generator[SamplingProgress, None, Float[Tensor, "b c t h w"]]:
    """Yields after each step; returns the edited latents. Levels above a frame's strength change nothing there.

    Step 0, in two parts, is to look where the source text describes the video.
    The source is guided as the target is; to guide it less, as the paper does, moves what should stay.
    """
    original = start.latents.to(noise).expand_as(noise)
    misfits = []
    for text in (texts.shared, texts.source):
        misfits.append(misfit(text, original, noise, REGION_LEVEL))
        yield SamplingProgress(0, len(sigmas) - 1)
    edited, region = original.clone(), described(*misfits)
    for step, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        moves = (start.strength >= sigma).to(noise)
        if bool(moves.any()):
            levels = torch.full((len(noise), noise.shape[2]), sigma)
            noisy = add_noise(original, noise, levels)
            moved = edited + noisy - original
            towards = guided(lambda c, x=moved, s=levels: texts.target(x, s, c), guidances, sigma)
            away = guided(lambda c, x=noisy, s=levels: texts.source(x, s, c), guidances, sigma)
            edited = edited + (following - sigma) * moves[:, None, None] * region * (towards - away)
        yield SamplingProgress(step, len(sigmas) - 1)
    return edited


def described(shared: Float[Tensor, "b t h w"], source: Float[Tensor, "b t h w"]) -> Bool[Tensor, "b 1 t h w"]:
    """The cells that the source text describes: all but those that the shared words alone misfit less.

    Those are, for example, the cells of an object of another colour than the one to change.
    """
    lead = functional.avg_pool2d(shared - source, REGION_CELLS, 1, REGION_CELLS // 2, count_include_pad=False)
    return (lead > -REGION_SLACK)[:, None]
