"""Uploads to frames: known by their first bytes, decoded in a limited child process, kept by their digest.

What is kept is frames in the model's own size and rate, so that no replica ever opens a stranger's file.
"""

import base64
import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import uuid4

import numpy as np

from data.atomic import sync
from data.config import MediaLimits
from data.sandbox import Sandbox
from model.config import digest_of
from model.errors import CapacityError, DiskFullError
from model.shapes import VideoShape
from serving.api.errors import ApiError, invalid

Kind = Literal["video", "image"]
LIMITS = MediaLimits(max_frames=4_000, max_cpu_s=30, max_wall_s=60, max_written_bytes=256 * 2**20)
"""A minute at 60 frames/s passes; what is longer is read no further than the model can use."""


class Material(NamedTuple):
    """An upload as it is kept: the name of its frames, which begins with the file's SHA-256, and their shape."""

    name: str
    shape: VideoShape


class Intake:
    """The uploads below one folder. Frames appear whole or not at all; the same upload is kept once."""

    def __init__(self, folder: Path, max_owner_bytes: int = 2**31) -> None:
        """Opens a folder; whoever has so many bytes of frames in it is told to wait until the janitor came."""
        self._folder = folder
        self._max_owner_bytes = max_owner_bytes
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def take(
        self,
        content: bytes,
        kind: Kind,
        shapes: Sequence[VideoShape],
        *,
        fps: float,
        max_frames: int,
        param: str,
        owner: str,
    ) -> Material:
        """The frames of an upload in the shape of nearest aspect.

        Raises:
            ApiError: 400 when it is no video (or picture), is damaged, or breaks a limit; 429 when the owner has as
                many as may be kept.
        """
        if kind_of(content) != kind:
            message = f"'{param}' is no {kind} that this server reads; send {_formats(kind)}."
            raise invalid(message, param=param, code="invalid_file")
        asked = {"kind": kind, "shapes": [list(shape) for shape in shapes], "fps": fps, "max_frames": max_frames}
        name = _name_of(content, asked, owner)
        try:
            self.keep(name)
            return Material(name, self._shape(name))
        except (FileNotFoundError, EOFError, ValueError):  # not there, or cut short by a power cut
            self._check_room(owner)
            self._decode(content, asked, self._path(name), param)
        return Material(name, self._shape(name))

    def keep(self, name: str) -> None:
        """Marks an upload as in use: the janitor takes what is old and belongs to no job.

        Raises:
            FileNotFoundError: it is gone.
        """
        os.utime(self._path(name))

    def _check_room(self, owner: str) -> None:
        num_bytes = 0
        for path in self._folder.glob(f"*.{_mark_of(owner)}.npy"):
            with suppress(FileNotFoundError):  # the janitor took it
                num_bytes += path.stat().st_size
        if num_bytes >= self._max_owner_bytes:
            message = "Too many uploads are kept for this API key; those that no video needs go within the hour."
            raise ApiError(429, message, code="quota_exceeded", headers={"retry-after": "120"})

    def frames(self, name: str) -> np.ndarray:
        """The frames of a kept upload, uint8 `T H W C` (a picture: `H W C`)."""
        return np.load(self._path(name), allow_pickle=False)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npy"

    def _shape(self, name: str) -> VideoShape:
        frames = np.load(self._path(name), mmap_mode="r", allow_pickle=False)
        return VideoShape(*(frames.shape[:3] if frames.ndim == 4 else (1, *frames.shape[:2])))

    def _decode(self, content: bytes, asked: dict[str, object], path: Path, param: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{uuid4().hex}"
        source, out = draft.with_suffix(".in"), draft.with_suffix(".out")
        try:
            source.write_bytes(content)
            reply = self._ask(**asked, path=str(source), out=str(out))
            if reply is not None:
                said = reply.replace(str(source), "the file").replace(source.name, "the file")  # no path leaves us
                message = f"'{param}' cannot be used: {said}"
                raise invalid(message, param=param, code="invalid_file")
            sync(out)  # before a job that names it is promised
            out.replace(path)
            sync(self._folder)
        finally:
            source.unlink(missing_ok=True)
            out.unlink(missing_ok=True)

    def _ask(self, **arguments: object) -> str | None:
        """None, or why the file cannot be used. The helper is started at the first upload, and again when it died."""
        with self._lock:
            for _ in range(2):
                self._sandbox = self._sandbox or Sandbox(LIMITS)
                try:
                    failure = self._sandbox.run("conform", **arguments).failure
                except DiskFullError:
                    raise
                except CapacityError:
                    self._sandbox.close()
                    self._sandbox = None
                else:
                    return failure.message if failure else None
        raise ApiError(503, "The server cannot read uploads at the moment; try again.", headers={"retry-after": "5"})


def file_digest(name: str) -> str:
    """The SHA-256 of the file that a kept upload came from, in hexadecimal digits; an older name as it is."""
    return name if "." not in name else base64.urlsafe_b64decode(name.partition(".")[0] + "=").hex()


def _name_of(content: bytes, asked: dict[str, object], owner: str) -> str:
    """Of the file, of what was made of it, and whose it is; 61 characters, for the tables hold 64.

    Owners share no upload: how fast one is taken would tell whether another has it.
    """
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{digest}.{digest_of(asked)[:8]}.{_mark_of(owner)}"


def _mark_of(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:8]


def kind_of(content: bytes) -> Kind:
    """A picture by its first bytes, else perhaps a video; names and types that clients send are not believed."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return "image" if is_webp or content.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) else "video"


def _formats(kind: Kind) -> str:
    return "MP4, MOV, MKV or WebM" if kind == "video" else "PNG, JPEG or WebP"
