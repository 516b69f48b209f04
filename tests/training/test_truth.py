"""Which shot a clip shows."""

from training.truth import covering_shot

SHOTS = [{"start_s": 0.0, "end_s": 2.0, "name": "a"}, {"start_s": 2.0, "end_s": 4.0, "name": "b"}]


def test_the_shot_that_covers_more_than_half_is_taken() -> None:
    assert covering_shot(SHOTS, 0.0, 2.0) == SHOTS[0]
    assert covering_shot(SHOTS, 0.9, 2.9) == SHOTS[0]
    assert covering_shot(SHOTS, 1.1, 3.1) == SHOTS[1]


def test_a_clip_across_a_cut_or_outside_has_none() -> None:
    assert covering_shot(SHOTS, 1.0, 3.0) is None
    assert covering_shot(SHOTS, 5.0, 7.0) is None
