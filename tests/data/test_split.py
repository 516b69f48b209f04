from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import ShotConfig
from data.split import ShotTracker, Window, WindowCutter, WindowGrid

GRIDS = st.builds(
    WindowGrid,
    num_frames=st.integers(1, 12),
    fps=st.sampled_from([6.0, 8.0, 12.5, 23.976, 30000 / 1001]),
    time_base=st.sampled_from([Fraction(1, 12800), Fraction(1, 1000), Fraction(1, 90), Fraction(1001, 30000)]),
)


def rgb(level: int) -> np.ndarray:
    return np.full((2, 2, 3), level % 256, np.uint8)


@given(grid=GRIDS, start=st.integers(-1000, 10**6), length=st.integers(0, 50_000))
@settings(max_examples=60, deadline=None)
def test_windows_lie_in_the_shot_and_never_overlap(grid: WindowGrid, start: int, length: int):
    spans = grid.spans(start, start + length)
    assert all(start <= begin < end <= start + length for begin, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert all(end - begin >= grid.least for begin, end in spans)
    left = start + length - (spans[-1][1] if spans else start)
    assert left < grid.length, "another window would have fitted"


@given(
    grid=GRIDS,
    steps=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    cuts=st.sets(st.integers(0, 30), max_size=5),
    last=st.integers(1, 300),
)
@settings(max_examples=60, deadline=None)
def test_the_stream_cuts_what_the_grid_says(grid: WindowGrid, steps: list[int], cuts: set[int], last: int):
    times = np.cumsum([0, *steps]).tolist()
    starts = [index for index in range(len(times)) if index == 0 or index in cuts]
    cutter, windows = WindowCutter(grid), list[Window]()
    for index, pts in enumerate(times):
        windows += cutter.push(pts, rgb(index), starts_shot=index in starts)
    windows += cutter.finish(times[-1] + last)

    ends = [*(times[index] for index in starts[1:]), times[-1] + last]
    per_shot = [grid.spans(times[index], end) for index, end in zip(starts, ends, strict=True)]
    expected = [(shot, *span) for shot, spans in enumerate(per_shot) for span in spans]
    assert [(window.shot_index, window.start_pts, window.end_pts) for window in windows] == expected
    assert cutter.num_shots == len(starts)
    assert cutter.num_short_shots == sum(not spans for spans in per_shot)
    for window in windows:
        first = starts[window.shot_index]
        last_of_shot = max(index for index, end in enumerate(times) if end < ends[window.shot_index])
        shown = window.frames[:, 0, 0, 0].tolist()
        assert all(first <= level <= last_of_shot for level in shown), "a frame of another shot"
        assert shown == [
            max(index for index in range(first, last_of_shot + 1) if times[index] <= max(time, times[first]))
            for k in range(grid.num_frames)
            for time in [window.start_pts + k * grid.period + Fraction(1, 2)]
        ]


def test_a_clock_rounded_to_ticks_loses_no_window():
    # 2 s of 24 fps in milliseconds: the last frame ends at 1.999 s, one tick short of two seconds.
    grid = WindowGrid(16, 8.0, Fraction(1, 1000))
    assert grid.spans(0, 1999) == [(0, 1999)]
    assert grid.spans(0, 1900) == []


def scenes(*colours: tuple[int, int, int], num_frames: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = np.concatenate([np.full((num_frames, 48, 64, 3), colour, np.int16) for colour in colours])
    frames += rng.integers(-3, 4, frames.shape, dtype=np.int16)  # sensor noise, so that no scene stands still
    return frames.clip(0, 255).astype(np.uint8)


def cuts_of(frames: np.ndarray) -> list[int]:
    tracker: ShotTracker[int] = ShotTracker(ShotConfig())
    judged = [pair for index, frame in enumerate(frames) for pair in tracker.push(index, frame)]
    judged += tracker.finish()
    assert [index for index, _ in judged] == list(range(len(frames)))
    return [index for index, starts_shot in judged if starts_shot]


def test_hard_cuts_are_found_at_their_frame():
    assert cuts_of(scenes((200, 40, 40), (40, 40, 200), (60, 200, 60))) == [0, 12, 24]


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_a_film_shorter_than_the_detector_s_window_is_one_shot(num_frames: int):
    assert cuts_of(scenes((200, 40, 40), num_frames=num_frames)) == [0]


def test_steady_motion_is_no_cut():
    frames = scenes((90, 90, 90), num_frames=40)
    for index, frame in enumerate(frames):
        frame[10:30, index : index + 20] = (230, 30, 30)
    assert cuts_of(frames) == [0]
