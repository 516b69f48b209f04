"""Seam measures: near 1 or 0 for unbroken motion, large for jumps, stops and cuts; a cross-fade is told."""

import colorsys

import numpy as np
import pytest

from training.seams import (
    as_ring,
    centroids,
    cross_fade,
    cross_fade_likeness,
    dissolve,
    flow_ratio,
    mix_likeness,
    motion_ratio,
    value_ratio,
    velocity_errors,
    velocity_step,
)

RED = (230, 20, 20)
HUES = {"red": colorsys.rgb_to_hsv(0.9, 0.1, 0.1)[0], "blue": colorsys.rgb_to_hsv(0.1, 0.1, 0.9)[0]}


def _film(columns: list[float]) -> np.ndarray:
    """A red square at these columns, soft at its edges."""
    x = np.arange(64)
    cover = np.stack([np.clip(6 - np.abs(x - column), 0, 1) for column in columns])
    square = cover[:, None, :, None] * (np.abs(np.arange(64) - 32) < 6)[None, :, None, None]
    return np.round(128 + square * (np.array(RED) - 128)).astype(np.uint8)


STEADY = _film([10 + 2 * t for t in range(16)])


def test_an_unbroken_motion_has_no_seam() -> None:
    assert value_ratio(STEADY, 8) == pytest.approx(1, abs=0.1)
    assert motion_ratio(STEADY, 8) == pytest.approx(1, abs=0.2)
    assert velocity_step(STEADY, 8, "red", HUES) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    "columns",
    [
        [10 + 2 * t + (8 if t >= 8 else 0) for t in range(16)],
        [10 + 2 * min(t, 8) for t in range(16)],
        [10 + 2 * (t if t < 8 else 16 - t) for t in range(16)],
    ],
    ids=["jump", "stop", "turn"],
)
def test_jumps_stops_and_turns_are_steps_in_velocity(columns: list[float]) -> None:
    assert velocity_step(_film(columns), 8, "red", HUES) > 1


def test_an_error_of_velocity_is_told_from_a_turn_that_the_world_made() -> None:
    turn = _film([10 + 2 * (t if t < 8 else 16 - t) for t in range(16)])
    assert velocity_step(turn, 8, "red", HUES) > 1
    assert velocity_errors(turn, turn, 8, "red", HUES) == (0, 0)
    assert velocity_errors(STEADY, turn, 8, "red", HUES)[1] > 1


@pytest.mark.parametrize(("given", "meets_at", "side"), [(slice(8), 7, 1), (slice(8, 16), 8, 0)])
def test_an_error_of_velocity_lies_on_the_side_that_was_made(given: slice, meets_at: int, side: int) -> None:
    slow = _film([10 + 2 * meets_at + (t - meets_at) for t in range(16)])
    slow[given] = STEADY[given]
    errors = velocity_errors(slow, STEADY, 8, "red", HUES)
    assert errors[side] == pytest.approx(1, abs=0.1)
    assert errors[1 - side] == pytest.approx(0.25, abs=0.05)  # the step across the seam alone


def test_a_cut_shows_in_value_and_motion() -> None:
    cut = np.concatenate([STEADY[:8], 255 - STEADY[8:]])
    assert value_ratio(cut, 8) > 5
    assert motion_ratio(cut, 8) > 3


def test_a_ring_is_judged_across_its_end() -> None:
    phase = np.pi / 4 + np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = _film(list(32 + 12 * np.sin(phase)))
    assert value_ratio(*as_ring(ring)) < 1.6
    assert value_ratio(*as_ring(STEADY)) > 2


def test_a_turn_of_a_moving_object_is_steady_flow_and_a_jump_is_not() -> None:
    there_and_back = _film([20 + 2 * t for t in range(8)] + [36 - 2 * t for t in range(8)])
    assert flow_ratio(*as_ring(there_and_back)) == pytest.approx(1, abs=0.5)
    jump = _film([20 + 2 * t + (6 if t >= 8 else 0) for t in range(16)])
    assert flow_ratio(jump, 8) > 2


def test_an_object_that_is_not_seen_has_no_velocity() -> None:
    assert np.isnan(velocity_step(STEADY, 8, "blue", HUES))
    assert np.isnan(velocity_errors(STEADY, STEADY, 8, "blue", HUES)).all()
    assert np.isnan(centroids(STEADY, "blue", HUES)).all()


def test_a_cross_fade_is_told_from_a_motion() -> None:
    fade = np.concatenate([STEADY[:4], cross_fade(STEADY[:4], STEADY[12:], 8), STEADY[12:]])
    assert cross_fade_likeness(fade, 4, 12) > 0.95
    assert cross_fade_likeness(STEADY, 4, 12) < 0.6


def test_a_dissolve_is_a_mix_of_two_videos_and_a_third_video_is_not() -> None:
    mixed = dissolve(STEADY, STEADY[::-1])
    assert np.array_equal(mixed[0], STEADY[0])
    assert np.array_equal(mixed[-1], STEADY[0])
    assert mix_likeness(mixed[4:12], STEADY[4:12], STEADY[::-1][4:12]) > 0.95
    assert mix_likeness(STEADY.transpose(0, 2, 1, 3)[4:12], STEADY[4:12], STEADY[::-1][4:12]) < 0.6
