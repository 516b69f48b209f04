"""Small steps between groups of frames, evened out as a video codec's deblocking filter evens those between its blocks.

Each group of frames is decoded from one latent frame, and what the latents of two groups say of a part that does not
move is never quite the same: it steps there, and nowhere else. A step that is small enough to be such an error is
halved at the border and the rest of it spread over the group; a larger one is motion, and stays (decision 0020).
"""

from collections.abc import Sequence

import numpy as np

from model.plan import Video
from model.shapes import Compression

GROUP = Compression().time
LARGEST_STEP = 8.0
"""Grey levels from which on a step is motion; up to half of it a step counts whole."""
SHARE = 0.5


class Deblocker:
    """Evens the borders of a batch of videos that come piece by piece, in whole groups; any pieces give the same."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def put(self, videos: Sequence[Video]) -> list[Video]:
        """The next frames of each video, uint8 `T H W C`."""
        return [np.concatenate(groups) for groups in zip(*map(self._group, _groups(videos)), strict=True)]

    def close(self, videos: Sequence[Video]) -> list[Video]:
        """All frames of rings, whose last group the first one follows."""
        return [
            np.concatenate([first, video[GROUP:]])
            for first, video in zip(self._group(np.stack([video[:GROUP] for video in videos])), videos, strict=True)
        ]

    def _group(self, frames: np.ndarray) -> np.ndarray:
        """The next group of all videos, `B T H W C`."""
        if self._last is not None:
            step = frames[:, 0].astype(np.float32) - self._last
            largest = np.abs(step).max(axis=-1, keepdims=True)
            error = SHARE * step * (2 - 2 * largest / LARGEST_STEP).clip(0, 1)
            fading = (1 - np.arange(frames.shape[1], dtype=np.float32) / frames.shape[1])[:, None, None, None]
            frames = (frames - fading * error[:, None]).round().clip(0, 255).astype(np.uint8)
        self._last = frames[:, -1].astype(np.float32)
        return frames


def _groups(videos: Sequence[Video]) -> list[np.ndarray]:
    batch = np.stack(videos)
    return [batch[:, begin : begin + GROUP] for begin in range(0, batch.shape[1], GROUP)]
