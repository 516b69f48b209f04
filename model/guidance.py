"""Guidances as deltas: each says what to add to the fully conditioned velocity, so that several add up.

A guidance asks for the velocities of weaker conditions by name; each is evaluated once a step, whoever asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Condition = Literal["full", "no_text", "no_history"]
"""Under all that is given; with the negative prompt (or none) in place of the prompt; with noise for given frames."""

Ask = Callable[[Condition], Tensor]
"""The velocity `B C T H W` under a condition, at the step's latents and noise levels."""


@runtime_checkable
class Guidance(Protocol):
    """A rule that pushes the velocity away from what a weaker condition would give."""

    def delta(self, ask: Ask, sigma: float) -> Tensor | None:
        """What to add to the velocity under all conditions, or None; `sigma` is the step's highest noise level."""
        ...


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Away from the velocity without the prompt, between two noise levels. Source: arXiv 2207.12598, 2404.07724."""

    scale: float
    low: float = 0.0
    high: float = 1.0

    def delta(self, ask: Ask, sigma: float) -> Float[Tensor, "b c t h w"] | None:
        """`(scale - 1) * (full - without)` inside the interval."""
        if self.scale == 1 or not self.low <= sigma <= self.high:
            return None
        return (self.scale - 1) * (ask("full") - ask("no_text"))


@dataclass(frozen=True)
class ZeroStarGuidance:
    """Classifier-free guidance against a scaled velocity, and no move at the highest noise levels.

    Source: CFG-Zero* (arXiv 2503.18886), made for flow models that are not trained to the end.
    """

    scale: float
    skip_from: float = 1.0

    def delta(self, ask: Ask, sigma: float) -> Float[Tensor, "b c t h w"] | None:
        """`(scale - 1) * (full - fit * without)`, where `fit` is the least-squares factor of each sample."""
        full = ask("full")
        if sigma >= self.skip_from:
            return -full
        if self.scale == 1:
            return None
        without = ask("no_text")
        fit = (full * without).flatten(1).sum(1) / without.square().flatten(1).sum(1).clamp_min(1e-8)
        return (self.scale - 1) * (full - fit.view(-1, 1, 1, 1, 1) * without)


@dataclass(frozen=True)
class HistoryGuidance:
    """Away from the velocity that does not see the given frames. Source: History Guidance (arXiv 2502.06764)."""

    scale: float

    def delta(self, ask: Ask, sigma: float) -> Float[Tensor, "b c t h w"] | None:
        """`(scale - 1) * (full - without)`."""
        del sigma
        return None if self.scale == 1 else (self.scale - 1) * (ask("full") - ask("no_history"))


def without_history(x: Tensor, sigma: Float[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
    """Latents `B C T H W` and levels in which every given frame (level 0) is noise; the same noise at every call."""
    is_given = sigma == 0
    # the same for every sample: none may depend on the batch that it is in
    noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x).expand_as(x)
    hidden = torch.where(is_given[:, None, :, None, None], noise, x)
    return hidden, torch.where(is_given, torch.ones_like(sigma), sigma)


def guided(ask: Ask, guidances: Sequence[Guidance], sigma: float) -> Float[Tensor, "b c t h w"]:
    """The velocity under all conditions with every guidance's delta added."""
    known: dict[Condition, Tensor] = {}

    def ask_once(condition: Condition) -> Tensor:
        if condition not in known:
            known[condition] = ask(condition)
        return known[condition]

    velocity = ask_once("full")
    deltas = [guidance.delta(ask_once, sigma) for guidance in guidances]
    return torch.stack([velocity, *(delta for delta in deltas if delta is not None)]).sum(0)
