"""Small changes to clips: what moves, how far, and what repeats."""

import torch

from training.augment import LARGEST_SHIFT_PX, jitter, shifted


def test_nine_views_are_the_clip_and_its_eight_neighbours() -> None:
    video = torch.zeros(2, 3, 4, 16, 20)
    video[..., 8, 10] = 1
    views = shifted(video, 3)
    places = [tuple(view[0, 0, 0].nonzero()[0].tolist()) for view in views]
    assert places == [(8 + y, 10 + x) for y in (3, 0, -3) for x in (3, 0, -3)]
    assert torch.equal(views[4], video)
    assert all(view.shape == video.shape and view.sum() == video.sum() for view in views)


def test_a_jittered_clip_moves_as_a_whole_and_repeats_under_its_seed() -> None:
    video = torch.zeros(4, 3, 2, 24, 24)
    video[..., 12, 12] = 1
    torch.manual_seed(3)
    moved = jitter(video)
    torch.manual_seed(3)
    assert torch.equal(jitter(video), moved)
    for clip in moved:
        peaks = [frame[0].argmax().item() for frame in clip.transpose(0, 1)]
        assert len(set(peaks)) == 1, "all frames of a clip move alike"
        assert abs(peaks[0] // 24 - 12) <= LARGEST_SHIFT_PX
