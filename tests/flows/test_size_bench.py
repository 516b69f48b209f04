"""What the bench of sizes says of its judge."""

import numpy as np
import pytest

from flows.bench_exam import Exam
from flows.size_bench import share_of_real, short
from model.shapes import VideoShape
from training.judge import Drawn


def unseen() -> Drawn:
    rng = np.random.default_rng(0)
    wide = [rng.integers(0, 255, (8, 16, 32, 3), dtype=np.uint8) for _ in range(2)]
    square = [rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    return Drawn(wide + square, [{"colour": "red", "shape": "ball"}] * 5)


def test_the_judge_is_held_to_real_clips_of_nearest_aspect(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        Exam, "share_of", lambda _, drawn, names: seen.extend(each.shape for each in drawn.videos) or 1.0
    )
    assert share_of_real(exam, VideoShape(8, 64, 64), unseen()) == 1
    assert share_of_real(exam, VideoShape(4, 24, 48), unseen()) == 1
    assert seen == [(8, 64, 64, 3)] * 3 + [(4, 24, 48, 3)] * 2


def test_nothing_is_said_where_no_real_clip_is_as_long(exam: Exam) -> None:
    assert share_of_real(exam, VideoShape(16, 32, 32), unseen()) is None


@pytest.mark.parametrize(("of_a_second", "holds"), [(0.8, True), (0.7, False)])
def test_a_second_is_held_against_real_ones(
    exam: Exam, monkeypatch: pytest.MonkeyPatch, of_a_second: float, holds: bool
) -> None:
    monkeypatch.setattr("flows.size_bench.SECOND", "32x32x4")
    monkeypatch.setattr("flows.size_bench.through_autoencoder", lambda _, videos: videos)
    monkeypatch.setattr(Exam, "drawn", lambda _, shape: [np.ones((shape.num_frames, 32, 32, 3), np.uint8)] * 2)

    def share_of(_: Exam, drawn: Drawn, names: list[str] | None = None) -> float:
        if not drawn.videos[0].any():
            return 0.85 if names else 0.6
        return of_a_second if len(drawn.videos[0]) == 4 else 0.95

    monkeypatch.setattr(Exam, "share_of", share_of)
    real = Drawn([np.zeros((16, 32, 32, 3), np.uint8)] * 2, [{"colour": "red"}] * 2)
    rows = short(exam, real)
    assert {name: row.holds for name, row in rows.items()} == {"112x112x1": True, "32x32x4": holds, "32x32x4-all": True}
    assert [row.peer for row in rows.values()] == [95, 85, 60]
    assert "of 16 frames: 95.0 %" in rows["32x32x4"].what
