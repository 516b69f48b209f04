"""Where made frames meet given ones: what the autoencoder loses there is carried into the made frames and faded out.

Given frames stay as they are, made ones come out of the decoder. In a scene that hardly moves, the decoder's error
would be the largest change of all, and show as a jump.
"""

from typing import NamedTuple

import numpy as np

FADE_FRAMES = 8


class Seam(NamedTuple):
    """The given frame next to a seam, and the same frame as the decoder gives it; uint8 `H W C` both."""

    given: np.ndarray
    decoded: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        """What the decoder lost there."""
        return self.given.astype(np.float32) - self.decoded


def met(made: np.ndarray, *, before: Seam | None = None, after: Seam | None = None) -> np.ndarray:
    """Made frames, uint8 `T H W C`, that leave from the frame before them and arrive at the one after."""
    fading = np.maximum(0, 1 - np.arange(1, len(made) + 1) / (FADE_FRAMES + 1))[:, None, None, None]
    mended = made.astype(np.float32)
    if before is not None:
        mended += fading * before.loss
    if after is not None:
        mended += fading[::-1] * after.loss
    return mended.round().clip(0, 255).astype(np.uint8)
