"""Near-duplicate clips: suspected by perceptual hash, settled by colour thumbnails, the best of each kept."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.config import DedupConfig

KEEP_RULE = "captioned first, then the larger source, then the sharper clip, then the lower clip id"


class Candidate(NamedTuple):
    """What the keep rule and the comparison need to know of one clip."""

    clip_id: str
    phash: str
    thumbnail: str
    is_captioned: bool
    source_pixels: int
    sharpness: float


class _Kept(NamedTuple):
    clip_id: str
    bits: np.ndarray
    levels: np.ndarray


def near_duplicates(clips: Sequence[Candidate], config: DedupConfig) -> dict[str, str]:
    """For each clip to drop, the kept clip that it repeats; `KEEP_RULE` says which of them is kept.

    The result does not depend on the order of `clips`. Time grows with the number of clips, not its square:
    two hashes that differ in at most d bits agree in one of d + 1 bands, so only those in a common band are compared.
    """
    if config.max_distance < 0:
        return {}
    kept_by_band: defaultdict[tuple[int, bytes], list[_Kept]] = defaultdict(list)
    repeats: dict[str, str] = {}
    for clip in sorted(clips, key=_keep_order):
        own = _signature(clip)
        bands = [(i, band.tobytes()) for i, band in enumerate(np.array_split(own.bits, config.max_distance + 1))]
        rivals = {rival.clip_id: rival for band in bands for rival in kept_by_band[band]}
        same = min((rival.clip_id for rival in rivals.values() if _is_same(own, rival, config)), default=None)
        if same is not None:
            repeats[clip.clip_id] = same
            continue
        for band in bands:
            kept_by_band[band].append(own)
    return repeats


def _signature(clip: Candidate) -> _Kept:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(clip.phash), dtype=np.uint8))
    levels = np.frombuffer(base64.b64decode(clip.thumbnail), dtype=np.uint8).astype(np.int16)
    return _Kept(clip.clip_id, bits, levels)


def _keep_order(clip: Candidate) -> tuple[bool, int, float, str]:
    return (not clip.is_captioned, -clip.source_pixels, -clip.sharpness, clip.clip_id)


def _is_same(clip: _Kept, other: _Kept, config: DedupConfig) -> bool:
    if clip.bits.size != other.bits.size:
        return False
    is_near = np.count_nonzero(clip.bits != other.bits) <= config.max_distance
    return bool(is_near and np.abs(clip.levels - other.levels).max() <= config.max_level)
