"""Shots and the windows cut from them, in one pass over the frames and in the source's own clock."""

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Generic, TypeVar

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from data.config import ShotConfig

_DETECT_PX = 96  # on the longer side; PySceneDetect compares mean colours, which this keeps
_LAG = 2  # frames on each side of a cut that the detector compares it with

Item = TypeVar("Item")


class ShotTracker(Generic[Item]):
    """Says of each frame whether it begins a shot, a few frames late: a cut is judged by what follows it."""

    def __init__(self, config: ShotConfig) -> None:
        # No minimal length: it counts frames, whose rate may vary. Short shots fall out later.
        self._detector = AdaptiveDetector(
            adaptive_threshold=config.adaptive_threshold,
            min_content_val=config.min_content,
            min_scene_len=0,
            window_width=_LAG,
        )
        self._waiting: deque[tuple[int, Item]] = deque()
        self._cuts: set[int] = {0}
        self._num_pushed = 0

    def push(self, item: Item, rgb: np.ndarray) -> list[tuple[Item, bool]]:
        """The items whose verdict is final now, each with whether it begins a shot; `rgb` is uint8 H W C."""
        # The rate is a stand-in: with frame numbers only, the detector never turns it into time.
        timecode = FrameTimecode(self._num_pushed, fps=1.0)
        for cut in self._detector.process_frame(timecode, _for_detector(rgb)):
            self._cuts.add(cut.frame_num)
        self._waiting.append((self._num_pushed, item))
        self._num_pushed += 1
        return self._release(_LAG)

    def finish(self) -> list[tuple[Item, bool]]:
        """The items still waiting when the source has ended."""
        return self._release(0)

    def _release(self, num_kept: int) -> list[tuple[Item, bool]]:
        released: list[tuple[Item, bool]] = []
        while len(self._waiting) > num_kept:
            index, item = self._waiting.popleft()
            released.append((item, index in self._cuts))
        return released


def _for_detector(rgb: np.ndarray) -> np.ndarray:
    scale = _DETECT_PX / max(rgb.shape[:2])
    if scale < 1:
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


@dataclass(frozen=True)
class WindowGrid:
    """How long a window is in the source's ticks, and when its frames are taken."""

    num_frames: int
    fps: float
    time_base: Fraction

    @cached_property
    def period(self) -> Fraction:
        """Ticks between two frames of the clip; rarely whole."""
        return 1 / (Fraction(self.fps).limit_denominator(1001) * self.time_base)

    @cached_property
    def length(self) -> int:
        """Ticks from one window's start to the next one's."""
        return math.ceil(self.num_frames * self.period)

    @cached_property
    def least(self) -> int:
        """Ticks that a shot must still have: half a period less, since timestamps are rounded to ticks."""
        return math.ceil((self.num_frames - Fraction(1, 2)) * self.period)

    def spans(self, start_pts: int, end_pts: int) -> list[tuple[int, int]]:
        """The half-open windows that fit in a shot: from its start, without gap or overlap, all inside it."""
        spans: list[tuple[int, int]] = []
        while end_pts - start_pts >= self.least:
            spans.append((start_pts, min(start_pts + self.length, end_pts)))
            start_pts += self.length
        return spans

    def sample(self, frames_pts: list[int], start_pts: int) -> list[int]:
        """For each frame of the clip, the index of the last source frame at or before its time."""
        times = [math.floor(start_pts + k * self.period + Fraction(1, 2)) for k in range(self.num_frames)]
        return [max(0, bisect_right(frames_pts, time) - 1) for time in times]


@dataclass(frozen=True)
class Window:
    """A clip's frames, uint8 T H W C at the clip's rate, and the span of the source that they show."""

    shot_index: int
    start_pts: int
    end_pts: int
    frames: np.ndarray


class WindowCutter:
    """Cuts a stream of timed frames into windows; holds the frames of one window only."""

    def __init__(self, grid: WindowGrid) -> None:
        self._grid = grid
        self._pts: list[int] = []
        self._frames: list[np.ndarray] = []
        self._start_pts = 0
        self._has_window = False
        self.num_shots = 0
        self.num_short_shots = 0

    def push(self, pts: int, rgb: np.ndarray, *, starts_shot: bool) -> list[Window]:
        """The windows that this frame completes; `pts` rises from call to call."""
        windows = self.finish(pts) if starts_shot else self._cut(pts)
        if starts_shot:
            self.num_shots += 1
            self._start_pts, self._has_window = pts, False
        self._pts.append(pts)
        self._frames.append(rgb)
        return windows

    def finish(self, end_pts: int) -> list[Window]:
        """The windows left in the shot that ends here; afterwards the cutter holds nothing."""
        if not self._pts:
            return []
        windows = self._cut(end_pts)
        if end_pts - self._start_pts >= self._grid.least:
            windows.append(self._window(end_pts))
        self.num_short_shots += not self._has_window
        self._pts, self._frames = [], []
        return windows

    def _cut(self, now_pts: int) -> list[Window]:
        windows: list[Window] = []
        while now_pts >= self._start_pts + self._grid.length:
            windows.append(self._window(self._start_pts + self._grid.length))
            self._start_pts += self._grid.length
            on_screen = self._grid.sample(self._pts, self._start_pts)[0]
            self._pts, self._frames = self._pts[on_screen:], self._frames[on_screen:]
        return windows

    def _window(self, end_pts: int) -> Window:
        self._has_window = True
        indices = self._grid.sample(self._pts, self._start_pts)
        frames = np.stack([self._frames[index] for index in indices])
        return Window(self.num_shots - 1, self._start_pts, end_pts, frames)
