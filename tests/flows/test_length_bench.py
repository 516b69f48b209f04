"""By which way the bench of lengths makes long videos, how it judges them, and which prompts last."""

import numpy as np
import pytest

from data.worlds.captions import Attributes, heldout_prompts, num_held_out
from flows.bench_exam import Exam
from flows.length_bench import LENGTHS, NUM_LASTING, can_last, lengths
from model.shapes import VideoShape


@pytest.mark.parametrize("num_frames", [8, 16])
def test_what_is_longer_than_the_window_is_made_as_users_make_it(exam: Exam, num_frames: int) -> None:
    plans: list[int] = []
    sampled = exam.pipeline._sampled
    exam.pipeline._sampled = lambda plan, *rest: plans.append(plan.index) or sampled(plan, *rest)  # pyright: ignore
    (video,) = exam.drawn(VideoShape(num_frames, 32, 32))
    assert video.shape == (num_frames, 32, 32, 3)
    assert plans == ([] if num_frames == 8 else [0, 1, 2])


def test_a_long_video_is_judged_by_its_end_against_its_beginning(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    begins: list[int] = []

    def drawn(_: Exam, shape: VideoShape) -> list[np.ndarray]:
        return [np.broadcast_to(np.arange(shape.num_frames)[:, None, None, None], (shape.num_frames, 4, 4, 3))]

    def share_right(_: Exam, videos: list[np.ndarray]) -> float:
        begins.append(int(videos[0][0, 0, 0, 0]))
        return 1.0 if begins[-1] == 0 else 0.95 if begins[-1] == 16 else 0.85

    monkeypatch.setattr(Exam, "drawn", drawn)
    monkeypatch.setattr(Exam, "share_right", share_right)
    rows = lengths(exam)
    assert begins == [16, 0, 48, 0, 112, 0]
    assert {name: row.holds for name, row in rows.items()} == dict(zip(LENGTHS, (True, False, False), strict=True))


def test_there_are_enough_prompts_that_last() -> None:
    assert can_last(Attributes("red", "ball", "large", "jumps", "white", "stays still"))
    assert not can_last(Attributes("red", "ball", "large", "jumps", "white", "zooms in"))
    assert not can_last(Attributes("red", "ball", "large", "falls", "white", "stays still"))
    assert sum(can_last(shown) for _, shown in heldout_prompts(num_held_out(3), 0, 3)) >= NUM_LASTING
