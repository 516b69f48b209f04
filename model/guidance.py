"""Guidances as deltas: each returns what to add to the conditional velocity, so that several add up."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Guidance(Protocol):
    """A rule that pushes the velocity away from what a weaker condition would give."""

    def delta(self, conditional: Tensor, unconditional: Tensor, sigma: float) -> Tensor:
        """What to add to `conditional`, same shape; `sigma` is the step's noise level."""
        ...


class ClassifierFreeGuidance:
    """Classifier-free guidance, within an interval of noise levels. Source: arXiv 2207.12598, 2404.07724."""

    def __init__(self, scale: float, *, low: float = 0.0, high: float = 1.0) -> None:
        self.scale, self.low, self.high = scale, low, high

    def delta(
        self, conditional: Float[Tensor, "b c t h w"], unconditional: Float[Tensor, "b c t h w"], sigma: float
    ) -> Float[Tensor, "b c t h w"]:
        """`(scale - 1) * (conditional - unconditional)` inside the interval, zero outside."""
        if not self.low <= sigma <= self.high:
            return conditional * 0
        return (self.scale - 1) * (conditional - unconditional)
