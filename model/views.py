"""The guided velocity of a video as the network sees it: turned, where it is a ring, and cut into patches elsewhere."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from model.guidance import Condition, Guidance, guided

Velocity = Callable[[Tensor, Tensor, Condition], Tensor]
"""Maps (latents `B C T H W`, noise levels `B T`, condition) to the velocity."""


class GuidedVelocity:
    """The velocity of latents `B C T H W` whose frames have the noise levels `T`, with every guidance added.

    Each look cuts patches at the next of their offsets; a `patch_size` of 1 leaves no choice.
    """

    def __init__(self, velocity: Velocity, guidances: Sequence[Guidance] = (), patch_size: int = 1) -> None:
        self._velocity, self._guidances, self._patch_size = velocity, guidances, patch_size

    def __call__(self, x: Tensor, levels: Float[Tensor, " t"], turn: int | None = None, look: int = 0) -> Tensor:
        """The velocity at one of several looks, counted from 0; of a ring from two views half a turn apart.

        `turn` says how far a ring is turned, and is None for a video that is none. Each frame counts most where it lies
        far from the view's ends, so that every pair of neighbours is seen as one.
        """
        if turn is None:
            return self._seen(x, levels, 0, look)
        num_frames = x.shape[2]
        place = torch.arange(num_frames)
        trust = torch.minimum(place, num_frames - 1 - place) + 0.5
        views = (turn, turn + num_frames // 2)
        weights = torch.stack([trust.roll(-view) for view in views])
        weights = (weights / weights.sum(dim=0))[:, :, None, None].to(x)
        return sum(
            (w * self._seen(x, levels, view, look) for w, view in zip(weights, views, strict=True)), torch.zeros_like(x)
        )

    def _seen(self, x: Tensor, levels: Float[Tensor, " t"], turn: int, look: int) -> Tensor:
        """The guided velocity of the latents rolled by so many frames, rolled back."""
        offsets = patch_offsets(self._patch_size)
        velocity = cut_elsewhere(self._velocity, offsets[look % len(offsets)], self._patch_size)
        turned, rows = x.roll(turn, 2), rows_of(levels.roll(turn), x)
        v = guided(lambda condition: velocity(turned, rows, condition), self._guidances, float(levels.max()))
        return v.roll(-turn, 2)


def rows_of(levels: Float[Tensor, " t"], x: Tensor) -> Float[Tensor, "b t"]:
    """Levels of frames as those of every sample of `x`."""
    return levels.to(x.device).expand(len(x), -1)


def of_frames(levels: Float[Tensor, " t"], x: Tensor) -> Float[Tensor, "t 1 1"]:
    """Levels of frames, to be multiplied with `x`."""
    return levels[:, None, None].to(x)


def of_samples(each: Bool[Tensor, " b"]) -> Bool[Tensor, "b 1 1 1 1"]:
    """What is said of each sample, for all of its latents."""
    return each[:, None, None, None, None]


def cut_elsewhere(velocity: Velocity, offset: tuple[int, int], patch_size: int) -> Velocity:
    """The velocity with the patches' borders moved up and left by so many cells; what is missing is mirrored."""
    down, right = offset
    if offset == (0, 0):
        return velocity
    margins = [(side, patch_size - side if side else 0) for side in (right, down)]

    def moved(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        framed = functional.pad(x, (*margins[0], *margins[1], 0, 0), mode="reflect")
        seen = velocity(framed, sigma, condition)
        return seen[..., down : down + x.shape[-2], right : right + x.shape[-1]]

    return moved


def patch_offsets(patch_size: int) -> tuple[tuple[int, int], ...]:
    """Where patches are cut in turn, in cells down and right: as ever, and half a patch away on both sides or one."""
    half = patch_size // 2
    return ((0, 0), (half, half), (0, half), (half, 0)) if half else ((0, 0),)
