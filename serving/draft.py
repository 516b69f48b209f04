"""The files of a video while it is made: written as its frames come, then sealed and put in their place at once."""

import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias, get_args
from uuid import uuid4

import numpy as np
from PIL import Image

from data.atomic import sync
from data.video import mp4_writer
from model.weights import file_digest
from serving.store.storage import FILE_NAMES, MEDIA_TYPES, Variant

_SPRITES = 16

Seal: TypeAlias = Callable[[Path, str], None]
"""Signs a file of a media type, in place."""


class Draft:
    """The video, thumbnail and spritesheet that `folder` is to hold; until they are whole they lie hidden beside it."""

    def __init__(self, folder: Path, num_frames: int, fps: float) -> None:
        self._folder, self._num_frames, self._fps = folder, num_frames, fps
        self._hidden = folder.with_name(f".{folder.name}.{uuid4().hex}")
        self._sprites = sorted(set(np.linspace(0, num_frames - 1, min(_SPRITES, num_frames)).round().astype(int)))
        self._kept: dict[int, np.ndarray] = {}
        self._opened = ExitStack()
        self._write: Callable[[np.ndarray], None] | None = None
        self._num_written = 0

    def add(self, frames: np.ndarray) -> None:
        """Writes the next frames, uint8 T H W C, of which a few are kept for the pictures."""
        if self._write is None:
            self._hidden.mkdir(parents=True)
            self._write = self._opened.enter_context(mp4_writer(self._hidden / FILE_NAMES["video"], self._fps))
        self._write(frames)
        for place in {*self._sprites, self._num_frames // 2}:
            if 0 <= place - self._num_written < len(frames):
                self._kept[place] = frames[place - self._num_written].copy()
        self._num_written += len(frames)

    def finish(self, seal: Seal) -> dict[Variant, Any]:
        """Name, sha256 and size of each file, sealed, in their place at once; all frames must have come."""
        assert self._num_written == self._num_frames, "all frames were added"
        try:
            self._opened.close()
            Image.fromarray(self._kept[self._num_frames // 2]).save(
                self._hidden / FILE_NAMES["thumbnail"],
                quality=90,
                lossless=self._num_frames == 1,  # then it is the picture itself
            )
            sheet = spritesheet([self._kept[place] for place in self._sprites])
            Image.fromarray(sheet).save(self._hidden / FILE_NAMES["spritesheet"], quality=90)
            for variant in get_args(Variant):
                seal(self._hidden / FILE_NAMES[variant], MEDIA_TYPES[variant])
            files = {variant: _facts(self._hidden / FILE_NAMES[variant]) for variant in get_args(Variant)}
            sync(self._hidden)
            shutil.rmtree(self._folder, ignore_errors=True)  # an earlier try of the same attempt
            self._hidden.replace(self._folder)
            sync(self._folder.parent)
        finally:
            self.discard()
        return files

    def discard(self) -> None:
        """Removes what was written, unless it is in its place already."""
        with suppress(Exception):  # whatever hinders the end of a file that nobody wants
            # as after an error: to have the encoder finish where a write failed ends the process
            self._opened.__exit__(GeneratorExit, GeneratorExit(), None)
        shutil.rmtree(self._hidden, ignore_errors=True)


def spritesheet(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The frames, uint8 H W C each, in a grid read like text; uint8 H W C."""
    num_columns = math.ceil(math.sqrt(len(frames)))
    num_rows = math.ceil(len(frames) / num_columns)
    height, width = frames[0].shape[:2]
    sheet = np.zeros((num_rows * height, num_columns * width, 3), np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, num_columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = frame
    return sheet


def _facts(path: Path) -> dict[str, Any]:
    sync(path)
    return {"name": path.name, "sha256": file_digest(path), "num_bytes": path.stat().st_size}
