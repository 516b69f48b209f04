"""How a video longer than the network's window is cut into windows, and what of it is given to one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.sampling import Start
from model.shapes import Compression, LatentShape

GROUP = Compression().time
"""Frames to a latent frame."""

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Windows:
    """How latents of the size `total` are made by a network that sees `size` frames at once.

    `cuts` are the frames with which a new scene begins. No window makes frames of two scenes, and as many frames of a
    new scene as fill a window are made anew when they are all there, which takes one plan more.
    """

    total: LatentShape
    size: int
    cuts: tuple[int, ...] = ()

    @property
    def overlap(self) -> int:
        """Frames of what is there that each window sees."""
        return max(1, self.size // 2)

    @property
    def stride(self) -> int:
        """Frames that each further window adds."""
        return max(1, self.size - self.overlap)

    def parts(self, num_there: int) -> list[int]:
        """How many frames each window adds of those that are finished next, when so many are there."""
        end = next((cut for cut in self.cuts if cut > num_there), self.total.num_frames)
        is_begun = num_there and num_there not in self.cuts
        length = min(self.stride if is_begun else self.size, end - num_there)
        if num_there not in self.cuts:
            return [length]
        return [min(self.stride, length - place) for place in range(0, length, self.stride)]

    def num_plans(self, num_there: int) -> int:
        """Plans that are needed when so many frames are there."""
        num_plans = 0
        while num_there < self.total.num_frames:
            parts = self.parts(num_there)
            num_plans += len(parts) + (num_there in self.cuts)
            num_there += sum(parts)
        return num_plans


def given_start(span: range, given: Mapping[int, Tensor]) -> Start | None:
    """The start of a window in which the given frames are kept, or None when none of them lies in it."""
    here = [given.get(frame) for frame in span]
    some = max((frame for frame in here if frame is not None), key=len, default=None)
    if some is None:
        return None
    empty = torch.zeros_like(some)
    latents = torch.cat([(empty if frame is None else frame).expand_as(some) for frame in here], dim=2)
    return Start.given(latents, torch.tensor([frame is not None for frame in here]))


def tail_of(video: np.ndarray, num_groups: int, direction: Direction) -> np.ndarray:
    """The whole groups of frames that an extension sees: the end, or the beginning when it goes backward.

    A video shorter than one group is held still at its outer frame.
    """
    length = max(1, min(num_groups, len(video) // GROUP)) * GROUP
    if len(video) < GROUP:
        still = video[:1] if direction == "forward" else video[-1:]
        padding = np.repeat(still, GROUP - len(video), axis=0)
        parts = [padding, video] if direction == "forward" else [video, padding]
        return np.concatenate(parts)
    return video[-length:] if direction == "forward" else video[:length]


def grouped(video: np.ndarray) -> np.ndarray:
    """The video, its last frame held until the groups are whole."""
    missing = -len(video) % GROUP
    return np.concatenate([video, np.repeat(video[-1:], missing, axis=0)]) if missing else video
