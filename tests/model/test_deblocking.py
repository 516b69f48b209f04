"""Steps between groups of frames: small ones are evened, motion stays, and pieces do not matter."""

import numpy as np
import pytest

from model.deblocking import GROUP, LARGEST_STEP, Deblocker


def stepping(*levels: int) -> np.ndarray:
    """A still video, `T 4 6 3`, whose groups have these grey levels."""
    return np.repeat(np.array(levels, np.uint8), GROUP)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)


def levels_of(video: np.ndarray) -> list[int]:
    return video[:, 0, 0, 0].tolist()


def test_a_small_step_is_halved_at_the_border_and_spread_over_the_group() -> None:
    (evened,) = Deblocker().put([stepping(100, 104)])
    assert levels_of(evened) == [100, 100, 100, 100, 102, 102, 103, 104]


def test_a_step_as_large_as_motion_stays() -> None:
    video = stepping(100, 100 + int(LARGEST_STEP), 60)
    assert np.array_equal(Deblocker().put([video])[0], video)


def test_only_the_pixels_that_step_little_are_changed() -> None:
    video = stepping(100, 104)
    video[GROUP:, :, 3:] = 180
    (evened,) = Deblocker().put([video])
    assert np.array_equal(evened[:, :, 3:], video[:, :, 3:])
    assert levels_of(evened)[GROUP] == 102


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_pieces_give_what_the_whole_gives(cut: int) -> None:
    draw = np.random.default_rng(0)
    videos = [draw.integers(100, 109, (4 * GROUP, 8, 8, 3), np.uint8) for _ in range(2)]
    whole, deblocker = Deblocker().put(videos), Deblocker()
    pieces = [
        deblocker.put([video[part] for video in videos]) for part in (slice(cut * GROUP), slice(cut * GROUP, None))
    ]
    assert not np.array_equal(whole[0], videos[0])
    for one, parts in zip(whole, zip(*pieces, strict=True), strict=True):
        assert np.array_equal(np.concatenate(parts), one)


def test_a_ring_is_evened_at_its_seam_too() -> None:
    deblocker = Deblocker()
    (ring,) = deblocker.close(deblocker.put([stepping(100, 100, 104)]))
    assert levels_of(ring)[:GROUP] == [102, 102, 101, 100]
    assert levels_of(ring)[GROUP:] == [100, 100, 100, 100, 102, 102, 103, 104]
