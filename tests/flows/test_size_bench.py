"""What the bench of sizes says of its judge."""

import numpy as np
import pytest

from flows.bench_exam import Exam
from flows.size_bench import share_of_real
from model.shapes import VideoShape
from training.judge import Drawn


def unseen() -> Drawn:
    rng = np.random.default_rng(0)
    wide = [rng.integers(0, 255, (8, 16, 32, 3), dtype=np.uint8) for _ in range(2)]
    square = [rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    return Drawn(wide + square, [{"colour": "red", "shape": "ball"}] * 5)


def test_the_judge_is_held_to_real_clips_of_nearest_aspect(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(Exam, "share_of", lambda _, drawn: seen.extend(each.shape for each in drawn.videos) or 1.0)
    assert share_of_real(exam, VideoShape(8, 64, 64), unseen()) == 1
    assert share_of_real(exam, VideoShape(4, 24, 48), unseen()) == 1
    assert seen == [(8, 64, 64, 3)] * 3 + [(4, 24, 48, 3)] * 2


def test_nothing_is_said_where_no_real_clip_is_as_long(exam: Exam) -> None:
    assert share_of_real(exam, VideoShape(16, 32, 32), unseen()) is None
