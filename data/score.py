"""Measures of one clip, cheap enough to take on every one; verdicts on them are made elsewhere."""

import base64

import cv2
import numpy as np

from data.records import Scores

NUM_HASH_FRAMES = 4
_HASH_GRID, _HASH_PX, _THUMBNAIL_PX = 8, 32, 8
_BLACK_LEVEL = 20  # of 255; video black is 16 before range expansion, and compression rings around it
OVERLAY_TEXT_METHOD = "none"


def score_clip(frames: np.ndarray) -> Scores:
    """All scores of uint8 T H W C frames."""
    luma = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    return Scores(
        motion=motion(luma),
        sharpness=sharpness(luma),
        exposure=round(float(luma.mean()) / 255, 6),
        border=border(luma),
        overlay_text=0.0,
        phash=perceptual_hash(luma),
        thumbnail=thumbnail(frames),
    )


def motion(luma: np.ndarray) -> float:
    """Mean absolute change between neighbouring frames (uint8 T H W), in [0, 1]; 0 for a single frame."""
    if len(luma) < 2:
        return 0.0
    change = np.abs(np.diff(luma.astype(np.int16), axis=0))
    return round(float(change.mean()) / 255, 6)


def sharpness(luma: np.ndarray) -> float:
    """Variance of the Laplacian, mean over frames; blur and emptiness lower it."""
    return round(float(np.mean([cv2.Laplacian(frame, cv2.CV_32F).var() for frame in luma])), 3)


def border(luma: np.ndarray) -> float:
    """The share of the picture in rows and columns at its edges that stay black all through the clip."""
    brightest = luma.max(axis=0)
    height, width = brightest.shape
    rows = _inner(brightest.max(axis=1) > _BLACK_LEVEL)
    columns = _inner(brightest.max(axis=0) > _BLACK_LEVEL)
    return round(1 - rows * columns / (height * width), 6)


def _inner(is_lit: np.ndarray) -> int:
    """Length from the first to the last lit line."""
    lit = np.flatnonzero(is_lit)
    return int(lit[-1] - lit[0] + 1) if lit.size else 0


def perceptual_hash(luma: np.ndarray) -> str:
    """64 bits a frame as hex, frames evenly spaced: which low DCT coefficients pass their median."""
    bits: list[np.ndarray] = []
    for frame in luma[_hash_frames(len(luma))]:
        small = cv2.resize(frame, (_HASH_PX, _HASH_PX), interpolation=cv2.INTER_AREA)
        # The first row and column hold brightness and plain gradients, which scenes share.
        low = cv2.dct(small.astype(np.float32))[1 : _HASH_GRID + 1, 1 : _HASH_GRID + 1]
        bits.append((low > np.median(low)).ravel())
    return np.packbits(np.concatenate(bits)).tobytes().hex()


def thumbnail(frames: np.ndarray) -> str:
    """The hashed frames as 8x8 RGB block means, uint8, base64."""
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    chosen = frames[_hash_frames(len(frames))]
    means = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in chosen]
    return base64.b64encode(np.stack(means).tobytes()).decode()


def _hash_frames(num_frames: int) -> np.ndarray:
    return np.linspace(0, num_frames - 1, NUM_HASH_FRAMES).round().astype(int)
