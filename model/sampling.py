"""The sampler: a generator over denoising steps, in which every latent frame follows its own noise levels.

A task is a pattern of starting levels: 1 for a frame to be made, 0 for a frame that is given, between them for a frame
to be changed. Frame f starts at its level and follows the common schedule from there on; a given frame never moves.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.diffusion import add_noise, shift_sigma
from model.errors import ConfigError
from model.sampling_options import Solver
from model.views import GuidedVelocity, of_frames, rows_of


@dataclass(frozen=True)
class SamplingProgress:
    """One finished denoising step; `step` counts from 1."""

    step: int
    num_steps: int


@dataclass(frozen=True)
class Start:
    """Where frames begin. `latents` (normalised) matter wherever `strength` is below 1.

    `is_known` marks single cells, `T H W`, that are held to `latents` although their frame is made: a region kept.
    """

    latents: Float[Tensor, "b c t h w"]
    strength: Float[Tensor, " t"]
    is_known: Bool[Tensor, "t h w"] | None = None

    @classmethod
    def given(cls, latents: Float[Tensor, "b c t h w"], is_given: Bool[Tensor, " t"]) -> "Start":
        """Frames that are kept as they are, all others made anew."""
        return cls(latents, (~is_given).float())


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
    return next(noise_stream(shape, seeds))


def noise_stream(shape: tuple[int, ...], seeds: Sequence[int]) -> Iterator[Float[Tensor, "b c t h w"]]:
    """Noise without end, each sample's from its own seed; `seeded_noise` is the first."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def frame_levels(sigmas: Sequence[float], strength: Float[Tensor, " t"]) -> Float[Tensor, "s t"]:
    """The noise level of each frame at each step: the schedule, from the frame's own starting level on."""
    return torch.minimum(torch.tensor(sigmas)[:, None], strength[None, :])


@torch.no_grad()
def sample(
    guided: GuidedVelocity,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Sequence[float],
    start: Start | None = None,
    *,
    solver: Solver = "euler",
    shifts: Int[Tensor, " s"] | None = None,
) -> Generator[SamplingProgress, None, Float[Tensor, "b c t h w"]]:
    """Yields after each step; returns the clean latents.

    With `shifts`, one per step, the video is a ring: each step sees it rolled by so many frames, so that no frame is
    ever the first (latent shift, Mobius, arXiv 2502.20307).
    """
    strength = torch.ones(noise.shape[2]) if start is None else start.strength
    levels = frame_levels(sigmas, strength)
    x = noise if start is None else add_noise(start.latents.to(noise), noise, rows_of(levels[0], noise))
    rule = _Rule(guided, solver)
    for step in range(len(sigmas) - 1):
        now, following = levels[step], levels[step + 1]
        if bool((now > following).any()):
            moved = rule.advance(x, now, following, None if shifts is None else int(shifts[step]), step)
            x = _hold_known(moved, noise, following, start)
        yield SamplingProgress(step + 1, len(sigmas) - 1)
    return x


class _Rule:
    """One step of a solver with guidance; a step's length differs from frame to frame."""

    def __init__(self, guided: GuidedVelocity, solver: Solver) -> None:
        self._guided, self._solver = guided, solver
        self._before: tuple[Tensor, Tensor] | None = None

    def advance(
        self, x: Tensor, now: Float[Tensor, " t"], following: Float[Tensor, " t"], shift: int | None, look: int
    ) -> Tensor:
        """The latents at the following levels."""
        length = of_frames(following - now, x)
        v = self._guided(x, now, shift, look)
        if self._solver == "heun" and bool((following[now > following] > 0).all()):
            v = 0.5 * (v + self._guided(x + length * v, following, shift, look))
        elif self._solver == "multistep":
            v, self._before = self._extrapolated(v, length), (v, length)
        return x + length * v

    def _extrapolated(self, v: Tensor, length: Tensor) -> Tensor:
        """The velocity in the middle of the step, on the line through the last two. Source: Adams-Bashforth."""
        if self._before is None:
            return v
        v_before, length_before = self._before
        # after a step much shorter than this one (a frame that joins the schedule) the line would be drawn far too long
        is_comparable = length_before < 0.5 * length
        ratio = torch.where(is_comparable, length / length_before.clamp_max(-1e-6), 0.0)
        return v + 0.5 * ratio * (v - v_before)


def _hold_known(x: Tensor, noise: Tensor, levels: Tensor, start: Start | None) -> Tensor:
    """The latents with known cells put back, at the noise level of their frame."""
    if start is None or start.is_known is None:
        return x
    return torch.where(start.is_known, add_noise(start.latents.to(x), noise, rows_of(levels, x)), x)
