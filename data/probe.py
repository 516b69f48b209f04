"""Untrusted media: a fixed demuxer, limits, and facts taken from the frames themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from data.config import MediaLimits
from data.containers import check_complete, demuxer_of
from data.records import SourceFacts
from data.video import display_matrix, open_video, swaps_axes
from model.errors import DecodeError

_HDR_TRANSFERS = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})


@contextmanager
def open_untrusted(path: Path, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Like `data.video.open_video`, but whole, of a known container, local, small enough and not HDR.

    Call it only in a child process with limits (`data.sandbox`).

    Raises:
        DecodeError: the file breaks one of these rules; the message says which.
    """
    demuxer = demuxer_of(path)
    check_complete(path)
    options = {"protocol_whitelist": "file"}
    with open_video(path.resolve(), format=demuxer, options=options) as (container, stream):
        _check_picture(stream, path, limits)
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        yield container, stream


def _check_picture(stream: VideoStream, path: Path, limits: MediaLimits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.max_pixels:
        raise DecodeError(f"{path.name} is {width}x{height}, past max_pixels={limits.max_pixels}; shrink it")
    if width * height == 0:
        raise DecodeError(f"{path.name} has a video stream without a picture size; it is damaged")
    if stream.codec_context.color_trc in _HDR_TRANSFERS:
        name = transfer_name(stream.codec_context.color_trc)
        raise DecodeError(f"{path.name} is HDR (transfer {name}) and would look flat; tone-map it first")


def transfer_name(color_trc: int) -> str:
    """FFmpeg's number for a transfer curve as a lower-case word."""
    try:
        return ColorTrc(color_trc).name.lower()
    except ValueError:
        return f"unknown-{color_trc}"


class FactsCollector:
    """Gathers a source's facts from its frames as they pass; nothing is believed that was not seen."""

    def __init__(self, container: InputContainer, stream: VideoStream, limits: MediaLimits) -> None:
        self._container, self._stream, self._limits = container, stream, limits
        self._first: VideoFrame | None = None
        self._first_pts = self._last_pts = self._last_step = 0
        self._num_frames = 0
        self._steps: set[int] = set()

    def add(self, picture: VideoFrame, pts: int) -> None:
        """Counts one frame; `pts` rises from call to call.

        Raises:
            DecodeError: more frames than the limit allows.
        """
        if self._first is None:
            self._first, self._first_pts = picture, pts
        else:
            self._last_step = pts - self._last_pts
            if len(self._steps) < 16:  # a few distinct steps tell all that we ask
                self._steps.add(self._last_step)
        self._last_pts = pts
        self._num_frames += 1
        if self._num_frames > self._limits.max_frames:
            raise DecodeError(f"more than max_frames={self._limits.max_frames} frames; cut it into parts")

    @property
    def end_pts(self) -> int:
        """Where the last frame ends: it is taken to last as long as the one before it."""
        return self._last_pts + max(1, self._last_step)

    def facts(self) -> SourceFacts:
        """All facts, once the last frame has passed.

        Raises:
            DecodeError: no frame was added.
        """
        if self._first is None:
            raise DecodeError("the video stream holds no frame that decodes; re-encode it")
        width, height = display_size(self._first, self._stream.sample_aspect_ratio or 1)
        duration_s = float((self.end_pts - self._first_pts) * (self._stream.time_base or 0))
        return SourceFacts(
            container=self._container.format.name,
            codec=self._stream.codec_context.name,
            width=width,
            height=height,
            rotation=self._first.rotation % 360,
            num_frames=self._num_frames,
            duration_s=duration_s,
            fps=self._num_frames / duration_s if duration_s else 0.0,
            is_vfr=bool(self._steps) and max(self._steps) - min(self._steps) > 1,
            has_audio=bool(self._container.streams.audio),
            color_transfer=transfer_name(self._stream.codec_context.color_trc),
        )


def display_size(picture: VideoFrame, pixel_aspect: Fraction | int) -> tuple[int, int]:
    """Width and height as shown: square pixels, upright."""
    width, height = max(1, round(picture.width * pixel_aspect)), picture.height
    matrix = display_matrix(picture)
    return (height, width) if swaps_axes(matrix) else (width, height)
