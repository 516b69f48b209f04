import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import DedupConfig
from data.dedup import Candidate, near_duplicates
from data.score import score_clip


def candidate(name: str, frames: np.ndarray, *, captioned: bool = False, pixels: int = 100) -> Candidate:
    scores = score_clip(frames)
    return Candidate(name, scores.phash, scores.thumbnail, captioned, pixels, scores.sharpness)


def tabletop(colour: tuple[int, int, int], x: int = 20, speed: float = 0.0, level: int = 150) -> np.ndarray:
    """A small block on a plain floor: the kind of scene that many films share."""
    floor = np.linspace(level - 20, level + 20, 64).astype(np.uint8)
    frames = np.broadcast_to(floor[None, :, None, None], (16, 64, 64, 3)).copy()
    for index, frame in enumerate(frames):
        left = round(x + speed * index)
        frame[30:40, left : left + 10] = colour
    return frames


def recompressed(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    error = np.random.default_rng(seed).integers(-2, 3, frames.shape)
    return (frames.astype(int) + error).clip(0, 255).astype(np.uint8)


def texture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (1, 8, 8, 3), dtype=np.uint8)
    return np.repeat(coarse.repeat(8, axis=1).repeat(8, axis=2), 16, axis=0)


def test_a_recompressed_clip_is_a_duplicate():
    clips = [candidate("a", texture(1)), candidate("b", recompressed(texture(1))), candidate("c", texture(2))]
    assert len(near_duplicates(clips, DedupConfig())) == 1
    assert "c" not in near_duplicates(clips, DedupConfig())


@pytest.mark.parametrize(
    "other",
    [
        tabletop((40, 40, 220)),
        tabletop((220, 40, 40), x=28),
        tabletop((220, 40, 40), speed=1.5),
        tabletop((220, 40, 40), level=175),
    ],
    ids=["colour", "place", "motion", "floor"],
)
def test_similar_scenes_are_not_duplicates(other: np.ndarray):
    clips = [candidate("a", tabletop((220, 40, 40))), candidate("b", other)]
    assert near_duplicates(clips, DedupConfig()) == {}


def test_the_rule_keeps_captioned_then_larger_then_lower_id():
    frames = texture(3)
    plain, large, captioned = (
        candidate("a", frames),
        candidate("b", frames, pixels=900),
        candidate("c", frames, captioned=True),
    )
    assert near_duplicates([plain, large, captioned], DedupConfig()) == {"a": "c", "b": "c"}
    assert near_duplicates([plain, large], DedupConfig()) == {"a": "b"}
    assert near_duplicates([candidate("z", frames), plain], DedupConfig()) == {"z": "a"}


def test_it_can_be_turned_off():
    clips = [candidate("a", texture(1)), candidate("b", texture(1))]
    assert near_duplicates(clips, DedupConfig(max_distance=-1)) == {}


@given(
    flips=st.lists(st.sets(st.integers(0, 255), max_size=14), min_size=1, max_size=12),
    distance=st.integers(0, 10),
    seed=st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_bands_miss_no_pair_and_order_does_not_matter(flips: list[set[int]], distance: int, seed):
    base = candidate("base", texture(5))
    clips = [
        base._replace(clip_id=f"{index:02}", phash=f"{int(base.phash, 16) ^ sum(1 << bit for bit in bits):064x}")
        for index, bits in enumerate(flips)
    ]
    config = DedupConfig(max_distance=distance)
    repeats = near_duplicates(clips, config)
    by_id = {clip.clip_id: int(clip.phash, 16) for clip in clips}

    def apart(one: str, two: str) -> int:
        return (by_id[one] ^ by_id[two]).bit_count()

    kept = [name for name in by_id if name not in repeats]
    assert all(kept_one in kept and apart(name, kept_one) <= distance for name, kept_one in repeats.items())
    assert all(apart(one, two) > distance for one in kept for two in kept if one < two), "the search missed a pair"
    seed.shuffle(clips)
    assert near_duplicates(clips, config) == repeats
