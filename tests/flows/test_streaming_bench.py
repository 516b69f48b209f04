"""A video of any length is made in the same memory, in a process of its own with a tiny real model."""

from pathlib import Path

import numpy as np

from flows.streaming_bench import LONG_FRAMES, SHORT_ROLLED_FRAMES, peak_bytes, roll
from model.tiny import save_tiny_pipeline


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    short, long = (peak_bytes(roll, tmp_path, num_frames) for num_frames in (SHORT_ROLLED_FRAMES, LONG_FRAMES))
    assert long <= 1.05 * short, f"{long / 1e6:.0f} MB for {LONG_FRAMES} frames, {short / 1e6:.0f} for the short video"


def test_what_the_process_that_asks_holds_is_not_counted(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    alone = peak_bytes(roll, tmp_path, 16)
    ballast = np.ones(2 * alone, np.uint8)
    assert peak_bytes(roll, tmp_path, 16) < 1.2 * alone < len(ballast)
