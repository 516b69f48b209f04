"""Any picture to one bucket's pixels: nearest aspect, shrunk by area to cover it, cropped at the centre."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from data.probe import display_size
from data.video import EXACT, display_matrix, swaps_axes, turn
from model.shapes import VideoShape

_SHRINKING, _KEEPING = Interpolation.AREA | EXACT, Interpolation.BICUBIC | EXACT


def nearest_shape(width: int, height: int, shapes: Sequence[VideoShape]) -> VideoShape:
    """The shape whose aspect is nearest on a log scale, so that 2:1 and 1:2 lie equally far from 1:1."""
    return min(shapes, key=lambda shape: abs(math.log(shape.aspect * height / width)))


def cover_size(width: int, height: int, shape: VideoShape) -> tuple[int, int]:
    """The smallest width and height of this aspect that cover the shape."""
    scale = max(Fraction(shape.width, width), Fraction(shape.height, height))
    return max(shape.width, round(width * scale)), max(shape.height, round(height * scale))


class Normalizer:
    """Turns decoded pictures of one source upright and into the pixels of one bucket."""

    def __init__(self, shapes: Sequence[VideoShape], pixel_aspect: Fraction | int) -> None:
        self._shapes, self._pixel_aspect = shapes, pixel_aspect
        self._shape: VideoShape | None = None
        # One reformatter for all frames: swscale keeps its tables while the sizes stay the same.
        self._reformatter = VideoReformatter()

    def shape_for(self, picture: VideoFrame) -> VideoShape:
        """The bucket of this source; its first picture decides."""
        if self._shape is None:
            self._shape = nearest_shape(*display_size(picture, self._pixel_aspect), self._shapes)
        return self._shape

    def __call__(self, picture: VideoFrame) -> np.ndarray:
        """The picture as uint8 H W C in the bucket's size."""
        shape = self.shape_for(picture)
        matrix = display_matrix(picture)
        width, height = cover_size(*display_size(picture, self._pixel_aspect), shape)
        stored_width, stored_height = (height, width) if swaps_axes(matrix) else (width, height)
        # means would only repeat the colours, which are stored at half size, where nothing shrinks
        scaling = _SHRINKING if stored_width < picture.width else _KEEPING
        scaled = self._reformatter.reformat(picture, stored_width, stored_height, format="rgb24", interpolation=scaling)
        rgb = turn(scaled.to_ndarray(), matrix)
        top, left = (height - shape.height) // 2, (width - shape.width) // 2
        return rgb[top : top + shape.height, left : left + shape.width].copy()
