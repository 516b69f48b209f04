"""Sizes as types: pixels, latents and the compression between them, so that no literal 8 stands in the code."""

import math
from typing import NamedTuple, Self

from model.errors import ConfigError


class Compression(NamedTuple):
    """How many pixels one latent cell covers along time, height and width."""

    time: int = 4
    height: int = 8
    width: int = 8


class LatentShape(NamedTuple):
    """The grid of one video's latents, without channels."""

    num_frames: int
    height: int
    width: int

    @property
    def num_cells(self) -> int:
        """Cells in the whole grid."""
        return math.prod(self)


class VideoShape(NamedTuple):
    """A video's size in frames and pixels."""

    num_frames: int
    height: int
    width: int

    @classmethod
    def parse(cls, bucket: str) -> Self:
        """The shape that a bucket name such as `80x48x16` (width x height x frames) stands for.

        Raises:
            ConfigError: the text is not three whole numbers joined by `x`.
        """
        parts = bucket.split("x")
        if len(parts) != 3 or not all(part.isdigit() for part in parts):
            raise ConfigError(f"bucket {bucket!r} is not WIDTHxHEIGHTxFRAMES; write for example 80x48x16")
        width, height, num_frames = (int(part) for part in parts)
        return cls(num_frames, height, width)

    @property
    def bucket(self) -> str:
        """The name of this shape: `WIDTHxHEIGHTxFRAMES`."""
        return f"{self.width}x{self.height}x{self.num_frames}"

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    def scaled(self, factor: float, step_px: int) -> Self:
        """The shape with both sides times `factor`, each rounded to a multiple of `step_px`."""
        height, width = (max(step_px, round(side * factor / step_px) * step_px) for side in (self.height, self.width))
        return self._replace(height=height, width=width)

    def latent(self, compression: Compression) -> LatentShape:
        """The latent grid of a video of this shape.

        Raises:
            ConfigError: a side or the number of frames is not a positive multiple of the compression.
        """
        for name, size, step in zip(self._fields, self, compression, strict=True):
            if size < 1 or size % step:
                raise ConfigError(
                    f"{name}={size} is not a positive multiple of {step}; use {max(step, round(size / step) * step)}"
                )
        return LatentShape(*(size // step for size, step in zip(self, compression, strict=True)))
