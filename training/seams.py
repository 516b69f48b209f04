"""How well frames meet where they were made apart: the step across a seam against the steps elsewhere.

A seam is named by the index of the first frame after it. Figures of a seam that cannot be seen lie near 1 (ratios) or
near 0 (errors). Videos are uint8 `T H W C`.
"""

import itertools
from collections.abc import Mapping

import cv2
import numpy as np

from training.coherence import colour_mask

NEIGHBOURS = 4
"""Frames on each side of a seam from which an object's velocity is read."""


def value_ratio(video: np.ndarray, seam: int) -> float:
    """The mean absolute change across the seam over the median change elsewhere."""
    return _ratio(np.abs(np.diff(video.astype(np.float32), axis=0)).mean(axis=(1, 2, 3)), [seam - 1])


def motion_ratio(video: np.ndarray, seam: int, like: np.ndarray | None = None) -> float:
    """The largest change of change at the seam over the median elsewhere: a jump in velocity shows here.

    Where the rest of the video is made to be even, the median is that of a video `like` it.
    """
    second, places = _second_differences(video), (seam - 2, seam - 1)
    places = [place for place in places if 0 <= place < len(second)]
    if like is None:
        return _ratio(second, places)
    return float(second[places].max() / max(float(np.median(_second_differences(like))), 1e-6))


def _second_differences(video: np.ndarray) -> np.ndarray:
    return np.abs(np.diff(video.astype(np.float32), n=2, axis=0)).mean(axis=(1, 2, 3))


def flow_ratio(video: np.ndarray, seam: int) -> float:
    """The mean length of the optical flow across the seam over the median elsewhere (Farneback's method)."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    flows = [
        cv2.calcOpticalFlowFarneback(
            before, after, np.zeros((*before.shape, 2), np.float32),
            pyr_scale=0.5, levels=2, winsize=9, iterations=3, poly_n=5, poly_sigma=1.1, flags=0,
        )
        for before, after in itertools.pairwise(grey)
    ]  # fmt: skip
    return _ratio(np.array([np.linalg.norm(flow, axis=2).mean() for flow in flows]), [seam - 1])


def as_ring(video: np.ndarray) -> tuple[np.ndarray, int]:
    """A loop played twice, and the seam between."""
    return np.concatenate([video, video]), len(video)


def centroids(video: np.ndarray, colour: str, hues: Mapping[str, float]) -> np.ndarray:
    """Where the patch of a colour is, `T 2` as (x, y) in pixels; NaN where it is not seen."""
    places = np.full((len(video), 2), np.nan)
    for index, frame in enumerate(video):
        rows, columns = np.nonzero(colour_mask(frame, colour, dict(hues)))
        if len(rows):
            places[index] = columns.mean(), rows.mean()
    return places


def velocity_step(video: np.ndarray, seam: int, colour: str, hues: Mapping[str, float]) -> float:
    """How much an object's velocity differs after a seam from before it, in pixels per frame; NaN when it is not seen.

    The step across the seam counts to what follows: a jump is a step too. So are a turn and a camera's move, which
    real clips have as well.
    """
    track = centroids(video, colour, hues)
    before = np.diff(track[max(0, seam - NEIGHBOURS) : seam], axis=0)
    after = np.diff(track[seam - 1 : seam + NEIGHBOURS], axis=0)
    if not len(before) or np.isnan(before).any() or np.isnan(after).any():
        return float("nan")
    return float(np.linalg.norm(after.mean(axis=0) - before.mean(axis=0)))


def velocity_errors(
    video: np.ndarray, real: np.ndarray, seam: int, colour: str, hues: Mapping[str, float]
) -> tuple[float, float]:
    """How far an object's velocity before a seam, and after it, is from what it really was, in pixels per frame.

    `real` is what the world did in the same frames; the step across the seam counts to both sides. NaN where the object
    is not seen.
    """
    tracks = [centroids(each, colour, hues) for each in (video, real)]
    before, after = (
        np.linalg.norm(np.subtract(*(np.diff(track[span], axis=0).mean(axis=0) for track in tracks)))
        for span in (slice(seam - NEIGHBOURS, seam + 1), slice(seam - 1, seam + NEIGHBOURS))
    )
    return float(before), float(after)


def cross_fade(first: np.ndarray, second: np.ndarray, num_frames: int) -> np.ndarray:
    """The naive transition: the last frame of one melts into the first of the other."""
    weights = (np.arange(1, num_frames + 1) / (num_frames + 1))[:, None, None, None]
    return np.round((1 - weights) * first[-1] + weights * second[0]).astype(np.uint8)


def dissolve(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The naive blend of two videos of one shape: a cross-fade over their whole length."""
    weights = np.linspace(0, 1, len(first))[:, None, None, None]
    return np.round((1 - weights) * first + weights * second).astype(np.uint8)


def cross_fade_likeness(video: np.ndarray, begin: int, end: int) -> float:
    """How much of the frames `begin` to `end` a mix of the frames around them explains, 0 to 1 (a cross-fade: 1)."""
    between = video[begin:end]
    before, after = (np.broadcast_to(frame, between.shape) for frame in (video[begin - 1], video[end]))
    return mix_likeness(between, before, after)


def mix_likeness(video: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """How much of a video mixes of two others, frame by frame, explain: 0 to 1.

    Each frame is fitted by the best mix of theirs; what counts is the share of its difference from the nearer of the
    two that this removes.
    """
    shares = []
    for made, one, other in zip(*(frames.astype(np.float64) for frames in (video, first, second)), strict=True):
        basis = other - one
        weight = np.clip(np.vdot(made - one, basis) / max(np.vdot(basis, basis), 1e-9), 0, 1)
        left = np.square(made - one - weight * basis).sum()
        nearest = min(np.square(made - one).sum(), np.square(made - other).sum())
        shares.append(1 - left / max(nearest, 1e-9))
    return float(np.mean(shares))


def _ratio(changes: np.ndarray, places: list[int]) -> float:
    rest = np.delete(changes, places)
    return float(changes[places].max() / max(float(np.median(rest)), 1e-6))
