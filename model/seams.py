"""Where made frames meet given ones: what the autoencoder loses there is carried into the made frames and faded out.

Given frames stay as they are, made ones come out of the decoder. In a scene that hardly moves, the decoder's error
would be the largest change of all, and show as a jump.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

FADE_FRAMES, BORDER_PX = 8, 1.0
MOVED = 24
"""Levels by which a pixel or a neighbour differs from the frame at the seam when something else is to be seen there."""


class Seam(NamedTuple):
    """The given frame next to a seam, and the same one as the decoder gives it: uint8 `H W C`, or `N H W C` of many."""

    given: np.ndarray
    decoded: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        """What the decoder lost there."""
        return self.given.astype(np.float32) - self.decoded

    def carried(self, made: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Made frames, uint8 `N H W C`, with a share of the loss, `N 1 1 1`, where they show what the seam shows.

        Carried on to where something has left, its edges would stay behind as a ghost.
        """
        mended = made + share * self._stillness(made) * self.loss
        return mended.round().clip(0, 255).astype(np.uint8)

    def _stillness(self, made: np.ndarray) -> np.ndarray:
        difference = np.abs(made.astype(np.float32) - self.decoded).max(axis=-1)
        around = np.stack([cv2.dilate(frame, np.ones((3, 3), np.uint8)) for frame in difference])
        return np.maximum(0, 1 - around / MOVED)[..., None]


def met(made: np.ndarray, *, before: Seam | None = None, after: Seam | None = None) -> np.ndarray:
    """Made frames, uint8 `T H W C`, that leave from the frame before them and arrive at the one after."""
    fading = share_of_loss(np.arange(1, len(made) + 1))[:, None, None, None]
    for seam, share in ((before, fading), (after, fading[::-1])):
        if seam is not None and len(made):
            made = seam.carried(made, share)
    return made


def met_around(made: np.ndarray, given: np.ndarray, is_made: np.ndarray) -> np.ndarray:
    """The given video, uint8 `T H W C`, with a region, bool `T H W`, made anew: at its border that takes on the loss.

    What lies outside comes out of the decoder too, and how far it is off there is carried a pixel or two inward.
    """
    outside, lost = (~is_made).astype(np.float32), given.astype(np.float32) - made
    near = np.stack([_blurred(frame) for frame in outside])[..., None]
    carried = np.stack([_blurred(frame) for frame in lost * outside[..., None]]) / np.maximum(near, 1e-3)
    mended = made + np.minimum(1, 2 * near) * carried  # outside a straight border lies half of the weight
    return np.where(is_made[..., None], mended.round().clip(0, 255).astype(np.uint8), given)


def _blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), BORDER_PX, borderType=cv2.BORDER_REPLICATE)


def begun_where_calmest(ring: np.ndarray) -> np.ndarray:
    """A ring, uint8 `T H W C`, turned so that it changes least from its last frame to its first.

    A ring has no beginning, but a file has: there a codec starts anew, which shows the more, the more happens.
    """
    steps = np.abs(ring.astype(np.float32) - np.roll(ring, 1, axis=0)).mean(axis=(1, 2, 3))
    return np.roll(ring, -int(steps.argmin()), axis=0)


def share_of_loss(distance: np.ndarray) -> np.ndarray:
    """How much of the loss at a seam is carried into a frame so many frames away."""
    return np.maximum(0, 1 - distance / (FADE_FRAMES + 1))


class Pinned:
    """Pictures at their places in a batch of videos that come piece by piece; the frames after each leave from it.

    `pictures` are uint8 `H W C`, by frame; None is a new scene without one, where what was carried ends.
    """

    def __init__(self, pictures: Mapping[int, np.ndarray | None]) -> None:
        self._pictures = pictures
        self._seam: Seam | None = None
        self._since = 0
        self.num_put = 0

    def put(self, videos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The next frames of each video, uint8 `T H W C`, with the pictures."""
        batch = np.stack(videos)
        for place in range(batch.shape[1]):
            batch[:, place] = self._frame(batch[:, place])
        return list(batch)

    def _frame(self, made: np.ndarray) -> np.ndarray:
        """The next frame of all videos, `B H W C`."""
        if self.num_put in self._pictures:
            picture, self._since = self._pictures[self.num_put], 0
            self._seam = None if picture is None else Seam(picture, made.copy())  # it is about to be put over
        share = share_of_loss(np.array(self._since))
        self.num_put, self._since = self.num_put + 1, self._since + 1
        return made if self._seam is None or not share else self._seam.carried(made, share)
