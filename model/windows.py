"""Videos longer than the network's window: made a window at a time, each one seeing the end of the one before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.memory import SceneMemory, stands_still
from model.plan import Model, Piece, Plan, Script, TaskRun, Video
from model.sampling import Start
from model.sampling_options import SamplingOptions
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


class Rolling:
    """Latents made window by window; of what is there, only what the next window sees is kept.

    They go on from `history` `1 C T H W` (or nothing), at its end or before its beginning; `known` holds latents
    `1 C 1 H W` that are given, by frame.
    """

    def __init__(
        self,
        windows: Windows,
        script: Script,
        *,
        history: Tensor | None = None,
        direction: Direction = "forward",
        known: Mapping[int, Tensor] | None = None,
        usual: SamplingOptions,
    ) -> None:
        self._windows, self._script, self._direction = windows, script, direction
        self._seen, self._known, self._usual = history, known or {}, usual
        self.num_there = 0 if history is None else history.shape[2]
        self._memory = SceneMemory(windows.size)
        self._index, self._num_plans = 0, windows.num_plans(self.num_there)

    @property
    def is_done(self) -> bool:
        """Whether all latents are made."""
        return self._index == self._num_plans

    def plan(self) -> Plan:
        """The next window."""
        num_seen, num_new = self._sizes
        total, is_forward = self._windows.total, self._direction == "forward"
        first = self.num_there - num_seen if is_forward else total.num_frames - self.num_there - num_new
        span = range(first, first + num_seen + num_new)
        given = dict(self._known)
        if self._seen is not None:
            given |= dict(enumerate(self._seen.split(1, dim=2), start=first if is_forward else first + num_new))
        return Plan(
            grid=total._replace(num_frames=len(span)),
            script=self._script.part(span.start, span.stop),
            start=given_start(span, given),
            usual=self._usual,
            polishes=self._polishes(first + num_seen if is_forward else first),
            index=self._index,
            num_plans=self._num_plans,
        )

    def take(self, made: Tensor) -> Tensor:
        """What the window made of `plan` adds to the video; the first one brings the history along."""
        num_seen, num_new = self._sizes
        is_forward, overlap = self._direction == "forward", self._windows.overlap
        new = self._recalled(made[:, :, num_seen:] if is_forward else made[:, :, :num_new])
        there = new
        if self._seen is not None:
            seen = self._seen.expand(len(made), -1, -1, -1, -1)
            there = torch.cat([seen, new] if is_forward else [new, seen], dim=2)
        added = there if self._index == 0 else new
        self._seen = there[:, :, -overlap:] if is_forward else there[:, :, :overlap]
        self._index, self.num_there = self._index + 1, self.num_there + num_new
        return added

    def _polishes(self, place: int) -> Callable[[Tensor], Tensor] | None:
        """Which samples to polish in the window that goes on with the frame at this place.

        Where the camera moves, the memory holds nothing: averaged at every window, the scene would fade.
        """
        is_still = self._memory.is_still(self._script.prompt_of_frame[place])
        if is_still is not None:
            return lambda _: is_still
        # the first window beside given frames is better polished, however the camera moves (decision 0027)
        return stands_still if self._index or self._seen is None else None

    def _recalled(self, new: Tensor) -> Tensor:
        """The latents that a window made, as their scenes showed at first what they show again."""
        num_new, is_forward = new.shape[2], self._direction == "forward"
        first = self.num_there if is_forward else self._windows.total.num_frames - self.num_there - num_new
        frames = list(enumerate(new.split(1, dim=2), start=first))
        recalled = {
            place: self._memory.recall(frame, self._script.prompt_of_frame[place], is_given=place in self._known)
            for place, frame in (frames if is_forward else reversed(frames))
        }
        return torch.cat([recalled[place] for place, _ in frames], dim=2)

    @property
    def _sizes(self) -> tuple[int, int]:
        """How many frames the next window sees, and how many it makes."""
        num_seen = min(self._windows.overlap, self.num_there)
        num_most = self._windows.stride if num_seen else self._windows.size
        return num_seen, min(num_most, self._windows.total.num_frames - self.num_there)


def rolled(model: Model, rolling: Rolling, finished: Callable[[list[Video]], list[Video]]) -> TaskRun:
    """A video of any length in constant memory: each window's frames go through `finished` and out at once."""
    decode = model.decoder()
    while not rolling.is_done:
        new = rolling.take((yield rolling.plan()))
        for videos in decode(new, is_last=rolling.is_done):
            piece = Piece(finished(videos))
            if len(piece.videos[0]):  # none when all of it was history
                yield piece


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
