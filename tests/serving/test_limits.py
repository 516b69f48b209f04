"""Durations and sizes: what is possible becomes a shape, what is not is answered with something that is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.shapes import VideoShape
from serving.limits import LimitError, ModelFacts, PixelLimits, check_pixels, seconds_text, shape_of


def facts_at(fps: float) -> ModelFacts:
    """A model at this rate."""
    steps = {"frame_step": 4, "width_step": 16, "height_step": 8}
    return ModelFacts(name="m", version="1", weights_digest="d", fps=fps, trained_buckets=(), **steps)


@pytest.mark.parametrize(
    ("seconds", "fps", "num_frames"),
    [("2", 8, 16), ("0.5", 8, 4), ("2.0", 8, 16), ("0.167", 24, 4), ("4", 30000 / 1001, 120)],
)
def test_seconds_become_whole_groups_of_frames(seconds: str, fps: float, num_frames: int) -> None:
    assert shape_of(seconds, "32x24", facts_at(fps), max_video_px=10**6) == VideoShape(num_frames, 24, 32)


@given(seconds=st.decimals(0, 999, places=2).map(str), fps=st.sampled_from([8, 10, 12, 24, 25, 30]))
def test_the_advised_seconds_are_possible(seconds: str, fps: int) -> None:
    try:
        shape_of(seconds, "16x8", facts_at(fps), max_video_px=10**9)
    except LimitError as error:
        advised = re.findall(r"'([\d.]+)'", str(error).split("use ")[1])
        assert advised
        for advice in advised:
            shape_of(advice, "16x8", facts_at(fps), max_video_px=10**9)


@given(width=st.integers(0, 9999), height=st.integers(0, 9999))
def test_the_advised_size_is_possible(width: int, height: int) -> None:
    try:
        shape = shape_of("1", f"{width}x{height}", facts_at(8), max_video_px=10**10)
    except LimitError as error:
        advised = str(error).split("use '")[1].split("'")[0]
        shape_of("1", advised, facts_at(8), max_video_px=10**10)
    else:
        assert (shape.width, shape.height) == (width, height)


@given(text=st.text(max_size=30))
def test_any_other_text_is_refused_by_name(text: str) -> None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        with pytest.raises(LimitError, match="not a number of seconds"):
            shape_of(text, "16x8", facts_at(8), max_video_px=10**6)
    if not re.fullmatch("[0-9]+x[0-9]+", text):
        with pytest.raises(LimitError, match="not WIDTHxHEIGHT"):
            shape_of("1", text, facts_at(8), max_video_px=10**6)


def test_seconds_are_written_short() -> None:
    assert [seconds_text(value) for value in (2.0, 0.5, 1 / 6, 10.0)] == ["2", "0.5", "0.167", "10"]


@pytest.mark.parametrize(
    ("kind", "num_frames", "height", "error"),
    [
        ("generate", 16, 8, None),
        ("generate", 1000, 8, None),
        ("storyboard", 1004, 8, "in all"),
        ("generate", 1000, 16, "at once"),
        ("loop", 16, 8, None),
        ("loop", 20, 8, "at once"),
        ("extend", 20, 8, "at once"),
    ],
)
def test_only_what_is_made_window_by_window_may_be_long(kind: str, num_frames: int, height: int, error) -> None:
    facts = facts_at(8).model_copy(update={"window_frames": 16})
    limits = PixelLimits(at_once=16 * 8 * 16, in_all=1000 * 8 * 16)
    if error is None:
        check_pixels(VideoShape(num_frames, height, 16), kind, facts, limits)
    else:
        with pytest.raises(LimitError, match=error):
            check_pixels(VideoShape(num_frames, height, 16), kind, facts, limits)
