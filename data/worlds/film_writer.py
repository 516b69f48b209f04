"""Writes a film as an ordinary video file: H.264 in MP4 with real timestamps and, where asked, a rotation flag."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter


class FilmWriter:
    """Takes upright frames in the order of their times and writes one file; use it as a context manager.

    Equal input gives equal bytes. With a rotation the pixels are stored turned, and a player turns them back.
    """

    def __init__(self, path: Path, *, width: int, height: int, rate: int, crf: int, rotation_deg: int = 0) -> None:
        self._quarter_turns = rotation_deg // 90
        # The index stays at the end, as cameras write it: a file that breaks off cannot be opened.
        self._container = av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"})
        # One thread: x264's rate control depends on how many frames are in flight. No macroblock tree: its assembly
        # reads memory that it never set (seen at 96 pixels' width, not at 128), so equal frames give unequal bytes.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "mbtree": "0", "flags": "+bitexact"}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = (height, width) if self._quarter_turns % 2 else (width, height)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        self._stream = stream
        self._time_base = Fraction(1, rate)
        self._reformatter = VideoReformatter()  # one for the film: setting it up costs more than a frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write(self, frames: Iterable[np.ndarray], times: Iterable[int], durations: Iterable[int]) -> None:
        """Appends frames (uint8 H W C, upright) at their times, both in units of 1 / rate seconds."""
        for rgb, time, duration in zip(frames, times, durations, strict=True):
            stored = np.ascontiguousarray(np.rot90(rgb, -self._quarter_turns))
            picture = VideoFrame.from_ndarray(stored, format="rgb24")
            picture = self._reformatter.reformat(picture, format="yuv420p", dst_colorspace=Colorspace.ITU601)
            picture.pts, picture.time_base, picture.duration = time, self._time_base, duration
            self._container.mux(self._stream.encode(picture))
