"""Videos longer than the network's window: made a window at a time, each one seeing the end of the one before."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.plan import Plan, Script
from model.sampling import Start
from model.shapes import Compression, LatentShape

GROUP = Compression().time
"""Frames to a latent frame."""

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Windows:
    """How latents of the size `total` are made by a network that sees `size` frames at once."""

    total: LatentShape
    size: int

    @property
    def overlap(self) -> int:
        """Frames of what is there that each window sees."""
        return max(1, self.size // 2)

    @property
    def stride(self) -> int:
        """Frames that each further window adds."""
        return max(1, self.size - self.overlap)

    def num_plans(self, num_there: int) -> int:
        """Windows that are needed when so many frames are there."""
        if num_there == 0:
            return 1 + self.num_plans(self.size)
        return max(0, -(-(self.total.num_frames - num_there) // self.stride))


def continued(
    latents: Tensor | None,
    windows: Windows,
    script: Script,
    *,
    direction: Direction = "forward",
    known: Mapping[int, Tensor] | None = None,
    guidance_scale: float | None = None,
) -> Generator[Plan, Tensor, Tensor]:
    """Latents `B C T H W` (or none) carried on to the whole length, at their end or before their beginning.

    `known` holds latents `1 C 1 H W` that are given, by frame.
    """
    num_plans = windows.num_plans(0 if latents is None else latents.shape[2])
    for index in range(num_plans):
        num_there = 0 if latents is None else latents.shape[2]
        num_seen = min(windows.overlap, num_there)
        num_new = min(windows.stride if num_seen else windows.size, windows.total.num_frames - num_there)
        first = num_there - num_seen if direction == "forward" else windows.total.num_frames - num_there - num_new
        given = dict(known or {})
        if latents is not None:
            offset = 0 if direction == "forward" else windows.total.num_frames - num_there
            given |= {offset + place: latents[:, :, place : place + 1] for place in range(num_there)}
        span = range(first, first + num_seen + num_new)
        made = yield Plan(
            grid=windows.total._replace(num_frames=len(span)),
            script=script.part(span.start, span.stop),
            start=given_start(span, given),
            guidance_scale=guidance_scale,
            index=index,
            num_plans=num_plans,
        )
        latents = joined(latents, made, num_new, direction)
    assert latents is not None
    return latents


def given_start(span: range, given: Mapping[int, Tensor]) -> Start | None:
    """The start of a window in which the given frames are kept, or None when none of them lies in it."""
    here = [given.get(frame) for frame in span]
    some = max((frame for frame in here if frame is not None), key=len, default=None)
    if some is None:
        return None
    empty = torch.zeros_like(some)
    latents = torch.cat([(empty if frame is None else frame).expand_as(some) for frame in here], dim=2)
    return Start.given(latents, torch.tensor([frame is not None for frame in here]))


def joined(latents: Tensor | None, made: Tensor, num_new: int, direction: Direction) -> Tensor:
    """What was there with the new frames of a window put to it, for every sample."""
    if latents is None:
        return made
    there = latents.expand(len(made), -1, -1, -1, -1)
    if direction == "forward":
        return torch.cat([there, made[:, :, -num_new:]], dim=2)
    return torch.cat([made[:, :, :num_new], there], dim=2)


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
