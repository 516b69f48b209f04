"""What a long video's scene showed at first: what is shown again, is shown as it was, so that scenes do not drift.

Each window sees only the end of the one before. What it gets a little wrong the next one takes for what was asked, and
after many of them walls have faded and things have moved. Our own; decision 0028 has what it gives.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.views import of_samples

ALIKE = 1.0
"""How far apart (root of the mean square over channels of normalised latents) two cells show different things."""
STILL = 0.2
"""How far most cells are from those of the next frame where the camera moves: at a still one 0.06 at most, else 0.3."""


class SceneMemory:
    """The first `size` latent frames of the scene that a video is in; how long the scene is changes nothing."""

    def __init__(self, size: int) -> None:
        self._size = max(2, size)  # one frame does not tell how still a scene is
        self._scene: int | None = None
        self._first: list[Tensor] = []

    def recall(self, frame: Float[Tensor, "b c 1 h w"], scene: int, *, is_given: bool) -> Float[Tensor, "b c 1 h w"]:
        """The next frame, which belongs to the scene of that number, as the scene shows it; a given one as it is."""
        if scene != self._scene:
            self._scene, self._first = scene, []
        if len(self._first) < self._size:
            self._first.append(frame)
            return frame
        first = torch.cat(self._first, dim=2)
        return frame if is_given else torch.where(of_samples(stands_still(first)), drawn_to(frame, first), frame)

    def is_still(self, scene: int) -> Bool[Tensor, " b"] | None:
        """Whether the camera stood still as the scene of that number began; None where that is not known yet."""
        return stands_still(torch.cat(self._first, dim=2)) if scene == self._scene and len(self._first) > 1 else None


def stands_still(frames: Float[Tensor, "b c t h w"]) -> Bool[Tensor, " b"]:
    """Whether the camera does, by most cells: held to how it began, a pan would come to a halt."""
    if frames.shape[2] < 2:
        return torch.ones(len(frames), dtype=torch.bool, device=frames.device)
    steps = distance(frames[:, :, 1:], frames[:, :, :-1]).flatten(1)
    return steps.median(dim=1).values < STILL


def distance(one: Float[Tensor, "b c t h w"], other: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 1 t h w"]:
    """The root of the mean square over channels of their difference."""
    return (one - other).square().mean(dim=1, keepdim=True).sqrt()


def drawn_to(frame: Float[Tensor, "b c 1 h w"], shown: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c 1 h w"]:
    """Each cell of a frame drawn to the one most like it of those shown there: the more, the more alike they are."""
    alike = (1 - distance(shown, frame.expand_as(shown)) / ALIKE).clamp_min(0)
    most, place = alike.max(dim=2, keepdim=True)
    nearest = shown.gather(2, place.expand(-1, shown.shape[1], -1, -1, -1))
    return torch.lerp(frame, nearest, most)
