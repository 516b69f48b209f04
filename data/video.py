"""Video files to frames and back: presentation time decides, rotation is applied, bytes are reproducible."""

import bisect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from data.atomic import replacing
from model.errors import ConfigError, DecodeError

logger = logging.getLogger(__name__)

# Keeps the broadcast rates (30000/1001) exact and every rate within what an MP4 timescale can hold.
_MAX_FPS_DENOMINATOR = 1001
EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""The same pixels on every processor. Without full chroma, swscale's RGB is up to 2 levels too dark, each time anew."""

_CONVERSION = Interpolation.BICUBIC | EXACT


@dataclass(frozen=True)
class Frame:
    """One decoded picture, upright: `rgb` is uint8 H W C, `time_s` is `pts` times the stream's time base."""

    pts: int
    time_s: float
    rgb: np.ndarray


@contextmanager
def open_video(path: Path, **open_kwargs: Any) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container and its first real video stream (attached pictures do not count).

    Raises:
        DecodeError: the file does not open as media, or has no video stream.
    """
    try:
        container = av.open(str(path), mode="r", **open_kwargs)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(f"{path} does not open as video ({error}); is it whole, and a known container?") from error
    with container:
        yield container, _first_video_stream(container, path)


def _first_video_stream(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.codec_context.thread_count = 1  # parallelism is across files; a pool per short clip costs time
            return stream
    kinds = sorted({stream.type for stream in container.streams}) or ["none"]
    raise DecodeError(f"{path} has no video stream (streams: {', '.join(kinds)}); give a file that holds video")


def iter_frames(path: Path) -> Iterator[Frame]:
    """Every frame of a trusted file in presentation order, upright.

    Raises:
        DecodeError: the file does not open, a packet does not decode, or a frame carries no timestamp.
    """
    with open_video(path) as (container, stream):
        yield from decoded_frames(container, stream)


def decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
    """Every frame of an open stream in presentation order, upright; raises like `iter_frames`."""
    # One converter and one display transform for the stream: anew for each small picture they outweigh its decoding.
    reformatter, matrix = VideoReformatter(), None
    try:
        for index, picture in enumerate(container.decode(stream)):
            if picture.pts is None or picture.time is None:
                raise DecodeError(f"{container.name} has a frame without a timestamp; remux it with ffmpeg first")
            if index == 0:
                matrix = display_matrix(picture)
            rgb = reformatter.reformat(picture, format="rgb24", interpolation=_CONVERSION).to_ndarray()
            yield Frame(picture.pts, picture.time, turn(rgb, matrix))
    except av.error.FFmpegError as error:
        raise DecodeError(f"{container.name} stops decoding ({error}); it is damaged or incomplete") from error


def display_matrix(picture: VideoFrame) -> tuple[int, int, int, int] | None:
    """The display transform x' = a x + c y, y' = b x + d y as (a, b, c, d); None when the file gives none."""
    try:
        # The stub types side data too narrowly.
        data = cast(SideDataContainer, picture.side_data)[SideData.DISPLAYMATRIX]
    except KeyError:
        return None
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(memoryview(data), dtype=np.int32))
    return a, b, c, d


def swaps_axes(matrix: tuple[int, int, int, int] | None) -> bool:
    """Whether the display transform makes the stored width the shown height."""
    return matrix is not None and abs(matrix[2]) > abs(matrix[0])


def turn(rgb: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """The picture after the display transform, rounded to the eight quarter turns and mirrors."""
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    turned, x_scale, y_scale = (rgb.transpose(1, 0, 2), c, b) if swaps_axes(matrix) else (rgb, a, d)
    return np.ascontiguousarray(turned[:: -1 if y_scale < 0 else 1, :: -1 if x_scale < 0 else 1])


def read_frames(path: Path, *, max_frames: int | None = None) -> np.ndarray:
    """The frames of a trusted file as uint8 T H W C RGB, at most `max_frames` of them.

    Raises:
        DecodeError: as `iter_frames`, or when the file holds no frame.
    """
    frames: list[np.ndarray] = []
    for frame in iter_frames(path):
        if max_frames is not None and len(frames) >= max_frames:
            break
        frames.append(frame.rgb)
    if not frames:
        raise DecodeError(f"{path} holds no frame (max_frames={max_frames}); give a video with at least one")
    return np.stack(frames)


def read_at(path: Path, times_s: Sequence[float]) -> np.ndarray:
    """For each time, the frame on screen then (the last at or before it, else the first): T H W C.

    Raises:
        DecodeError: as `read_frames`.
    """
    frames = list(iter_frames(path))
    if not frames:
        raise DecodeError(f"{path} holds no frame; give a video with at least one")
    indices = indices_at([frame.time_s for frame in frames], times_s)
    return np.stack([frames[index].rgb for index in indices])


def indices_at(frame_times_s: Sequence[float], times_s: Sequence[float]) -> list[int]:
    """For each time, the index of the last frame at or before it (0 before the first); frame times ascend."""
    tolerance_s = 1e-6  # pts * time_base and k / fps round differently; a microsecond is below any frame
    return [max(0, bisect.bisect_right(frame_times_s, time_s + tolerance_s) - 1) for time_s in times_s]


def write_mp4(
    path: Path,
    frames: np.ndarray,
    fps: Fraction | float,
    *,
    crf: int = 16,
    ipratio: float = 2.0,
    pixel_format: str = "yuv420p",
) -> None:
    """Writes uint8 T H W C frames as H.264 in MP4 at exactly `fps`; as `mp4_writer`, all frames at once."""
    with mp4_writer(path, fps, crf=crf, ipratio=ipratio, pixel_format=pixel_format) as write:
        write(frames)


@contextmanager
def mp4_writer(
    path: Path, fps: Fraction | float, *, crf: int = 16, ipratio: float = 2.0, pixel_format: str = "yuv420p"
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that writes the next uint8 T H W C frames as H.264 in MP4 at exactly `fps`.

    The file appears when the block ends without an error: whole or not at all. Same frames, same bytes, however they
    are cut into pieces.

    `ipratio` says how much finer than the rest the first frame is quantised, which may be a picture that somebody gave;
    x264's own 1.4 costs it 0.7 dB and saves one byte in a hundred (decision 0019).

    Raises:
        ConfigError: frames are not uint8 T H W 3 or not of the size of the first, there are none, the rate is not
            positive, or a size is odd and the pixel format is not yuv444p.
    """
    rate = Fraction(fps).limit_denominator(_MAX_FPS_DENOMINATOR)
    if rate <= 0:
        raise ConfigError(f"fps={rate} is not positive; give for example 8 or Fraction(30000, 1001)")
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with (
        replacing(path) as partial,
        av.open(str(partial), mode="w", format="mp4", container_options=options) as container,
    ):
        quality = {"crf": str(crf), "x264-params": f"ipratio={ipratio}"}
        encoder = _Encoder(container, rate, quality, pixel_format)
        yield encoder.write
        encoder.finish()


class _Encoder:
    """The one stream of an open file; its first frames decide the size."""

    def __init__(self, container: OutputContainer, rate: Fraction, quality: dict[str, str], pixel_format: str) -> None:
        self._container, self._rate, self._pixel_format = container, rate, pixel_format
        # One thread: x264's rate control depends on how many frames are in flight. No macroblock tree: its assembly
        # reads memory that was never set, so the same small frames gave other bytes from call to call.
        codec_options = quality | {"preset": "veryfast", "threads": "1", "mbtree": "0", "flags": "+bitexact"}
        self._stream = container.add_stream("libx264", rate=rate, options=codec_options)
        self._reformatter = VideoReformatter()
        self._num_written = 0

    def write(self, frames: np.ndarray) -> None:
        """Encodes the next frames."""
        self._check(frames)
        if not self._num_written:
            self._begin(*frames.shape[1:3])
        for rgb in frames:
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            picture = self._reformatter.reformat(
                picture, format=self._pixel_format, dst_colorspace=Colorspace.ITU601, interpolation=_CONVERSION
            )
            picture.pts, picture.time_base, picture.duration = self._num_written, 1 / self._rate, 1
            self._container.mux(self._stream.encode(picture))
            self._num_written += 1

    def finish(self) -> None:
        """Writes what the encoder held back."""
        if not self._num_written:
            raise ConfigError("no frame was written, which is no video; give at least one")
        self._container.mux(self._stream.encode())

    def _begin(self, height: int, width: int) -> None:
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._pixel_format
        self._stream.codec_context.time_base = 1 / self._rate
        self._stream.codec_context.colorspace = Colorspace.ITU601
        self._stream.codec_context.color_range = ColorRange.MPEG

    def _check(self, frames: np.ndarray) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise ConfigError(f"frames are {frames.dtype} {frames.shape}; give uint8 T H W 3 with at least one frame")
        height, width = frames.shape[1:3]
        if self._num_written and (height, width) != (self._stream.height, self._stream.width):
            raise ConfigError(
                f"frames of {width}x{height} cannot follow those of {self._stream.width}x{self._stream.height}; "
                "scale them to one size"
            )
        if self._pixel_format != "yuv444p" and (height % 2 or width % 2):
            raise ConfigError(
                f"{width}x{height} is odd, which {self._pixel_format} cannot hold; use even sizes or yuv444p"
            )
