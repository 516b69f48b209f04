"""What the benches measure in a video, uint8 `T H W C`: likeness, steps, colours and places."""

import numpy as np

from flows.bench_studio import HUES
from training.coherence import colour_mask
from training.seams import centroids

OUTLIER = 1.5


def psnr_db(made: np.ndarray, given: np.ndarray) -> float:
    """PSNR of 8-bit pictures."""
    error = np.square(made.astype(np.float64) - given).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def farthest(made: np.ndarray, given: np.ndarray) -> int:
    """How far the two are apart where they differ most, in levels of 256."""
    return int(np.abs(made.astype(np.int16) - given).max())


def step_ratio(video: np.ndarray, seam: int) -> float:
    """The frame difference at a seam over the median of all others."""
    steps = _frame_steps(video)
    return float(steps[seam - 1] / max(float(np.median(np.delete(steps, seam - 1))), 1e-6))


def largest_step_ratio(video: np.ndarray) -> float:
    """The largest frame difference over the median."""
    steps = _frame_steps(video)
    return float(steps.max() / max(float(np.median(steps)), 1e-6))


def border_step(video: np.ndarray, mask: np.ndarray) -> float:
    """The mean difference between neighbouring pixels of which one lies in a region, bool `T H W`, and one outside."""
    steps = []
    for axis in (1, 2):
        crosses = np.diff(mask, axis=axis)
        steps.append(np.abs(np.diff(video.astype(np.float64), axis=axis))[crosses].ravel())
    return float(np.concatenate(steps).mean())


def has_outlier(ring: np.ndarray) -> bool:
    """Whether one step of a ring is far larger than every other, wherever it lies: a seam that shows."""
    *_, second, largest = np.sort(_frame_steps(np.concatenate([ring, ring[:1]])))
    return bool(largest > OUTLIER * second)


def colour_area(video: np.ndarray, colour: str) -> np.ndarray:
    """How many pixels of each frame show a colour."""
    return np.array([colour_mask(frame, colour, HUES).sum() for frame in video])


def colour_share(video: np.ndarray, colour: str, target: str) -> np.ndarray:
    """The share of the target colour in what shows either colour, by frame."""
    old, new = colour_area(video, colour), colour_area(video, target)
    return new / np.maximum(old + new, 1)


def turns_once(video: np.ndarray, colour: str, target: str) -> bool:
    """Whether a video begins in one colour, ends in another, and never turns back between."""
    share = colour_share(video, colour, target)
    smooth = np.convolve(share, np.ones(4) / 4, mode="valid")
    return bool((np.diff(smooth) > -0.1).all() and share[0] < 0.5 < share[-1])


def first_frame_of(video: np.ndarray, colour: str, target: str) -> int:
    """The first frame that shows more of the target colour than of the other; the length when none does."""
    wins = colour_area(video, target) > colour_area(video, colour)
    return int(wins.argmax()) if wins.any() else len(video)


def is_recoloured(given: np.ndarray, made: np.ndarray, colour: str, target: str) -> bool:
    """Whether the new colour fills at least half of what the old one did, of which less than half is left."""
    half = colour_area(given, colour).sum() / 2
    return bool(colour_area(made, target).sum() >= half > colour_area(made, colour).sum())


def distance_px(given: np.ndarray, made: np.ndarray, colour: str, target: str) -> float:
    """The median distance over time between what has one colour in the given video and another in the made one.

    Where the made video does not show it, that is the picture's width.
    """
    before, after = centroids(given, colour, HUES), centroids(made, target, HUES)
    distances = np.linalg.norm(after - before, axis=1)[~np.isnan(before[:, 0])]
    return float(np.median(np.nan_to_num(distances, nan=given.shape[2])))


def outside_psnr_db(given: np.ndarray, made: np.ndarray, colour: str, target: str) -> float:
    """PSNR over the pixels that show neither the old object nor the new one."""
    untouched = np.stack([
        ~(colour_mask(old, colour, HUES) | colour_mask(new, target, HUES))
        for old, new in zip(given, made, strict=True)
    ])  # fmt: skip
    return psnr_db(made[untouched], given[untouched])


def _frame_steps(video: np.ndarray) -> np.ndarray:
    """The mean difference of each frame from the one before it."""
    return np.abs(np.diff(video.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
