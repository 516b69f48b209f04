"""The end of a sampling: what was made is noised again and predicted several times, and the mean is kept.

What a network gets wrong differs with the noise, and with where the borders of its patches lie; what it makes out in
every one of them is what outlines should follow. Our own: decision 0026 has what it gives and costs.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.diffusion import add_noise
from model.guidance import Guidance
from model.sampling import SamplingProgress, Start
from model.views import GuidedVelocity, Velocity, of_frames, rows_of


@dataclass(frozen=True)
class Round:
    """Noised up to `level`, predicted so many times under the guidances."""

    level: float
    num_predictions: int
    guidances: Sequence[Guidance] = ()


@torch.no_grad()
def polish(
    velocity: Velocity,
    x: Float[Tensor, "b c t h w"],
    noises: Iterator[Float[Tensor, "b c t h w"]],
    rounds: Sequence[Round],
    start: Start | None = None,
    *,
    patch_size: int,
    turns: Int[Tensor, " n"] | None = None,
) -> Generator[SamplingProgress, None, Float[Tensor, "b c t h w"]]:
    """Yields after each prediction; returns the latents. No frame is noised above its own starting level.

    With `turns`, one per prediction, the video is a ring, as in `sample`.
    """
    strength = torch.ones(x.shape[2]) if start is None else start.strength
    num_steps, step = sum(each.num_predictions for each in rounds), 0
    for each in rounds:
        levels, moved = strength.clamp(max=each.level), torch.zeros_like(x)
        guided = GuidedVelocity(velocity, each.guidances, patch_size)
        for look in range(each.num_predictions):
            noisy = add_noise(x, next(noises).to(x), rows_of(levels, x))
            turn = None if turns is None else int(turns[step])
            # a given frame is not noised: it moves by nothing, and stays what it was to the last bit
            moved += noisy - x - of_frames(levels, x) * guided(noisy, levels, turn, look)
            step += 1
            yield SamplingProgress(step, num_steps)
        x = x + moved / each.num_predictions
        if start is not None and start.is_known is not None:
            x = torch.where(start.is_known, start.latents.to(x), x)
    return x
