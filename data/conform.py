"""A user's own video or picture as frames that the model can take: its rate, one of its sizes, upright."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from data.normalize import Normalizer
from data.video import indices_at, open_video
from model.errors import DecodeError
from model.shapes import VideoShape

Opener = Callable[[Path], AbstractContextManager[tuple[InputContainer, VideoStream]]]
MAX_PICTURE_PX = 64_000_000
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")


def conformed_video(
    path: Path,
    shapes: Sequence[VideoShape],
    fps: float,
    *,
    max_frames: int,
    max_decoded: int | None = None,
    opener: Opener = open_video,
) -> np.ndarray:
    """The frames of a file at `fps`, in the shape of nearest aspect: uint8 T H W C, at most `max_frames`.

    Files of strangers want another `opener` (`data.probe.open_untrusted`), in a child process with limits; and a
    `max_decoded`, for a short file may hold any number of frames.

    Raises:
        DecodeError: the file holds no video that can be read, or more frames than `max_decoded` before its end.
    """
    frames: list[np.ndarray] = []
    times_s: list[float] = []
    with opener(path) as (container, stream):
        normalize = Normalizer(shapes, stream.sample_aspect_ratio or 1)
        for picture in container.decode(stream):
            time_s = float(picture.time or 0.0)
            if times_s and time_s - times_s[0] >= max_frames / fps:
                break
            if len(frames) == max_decoded:
                raise DecodeError(f"{path.name} holds more than {max_decoded} frames; send fewer frames a second")
            frames.append(normalize(picture))
            times_s.append(time_s)
    if not frames:
        raise DecodeError(f"{path} holds no frame; give a video with at least one")
    length_s = times_s[-1] - times_s[0] + _frame_s(times_s, fps)
    wanted_s = [times_s[0] + place / fps for place in range(max(1, round(length_s * fps)))]
    return np.stack([frames[place] for place in indices_at(times_s, wanted_s[:max_frames])])


def conformed_image(path: Path, shapes: Sequence[VideoShape], *, max_pixels: int = MAX_PICTURE_PX) -> np.ndarray:
    """A picture in the shape of nearest aspect: uint8 H W C.

    Raises:
        DecodeError: the file is no picture, or too large.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise DecodeError(f"{path.name} is {image.width}x{image.height}, past {max_pixels} pixels; shrink it")
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DecodeError(f"{path} does not open as a picture ({error}); give a PNG, JPEG or WebP") from error
    return Normalizer(shapes, 1)(VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))


def _frame_s(times_s: Sequence[float], fps: float) -> float:
    """How long the last frame stays on screen: as long as those before it, on average."""
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else 1 / fps
