"""A running server as the bench of edits sees it: clips in, clips out, as files."""

import io
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from data.video import read_frames, write_mp4

FPS = 8.0


class Endpoint:
    """A running server: clips in, clips out, as files."""

    def __init__(self, url: str, folder: Path) -> None:
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._folder = folder

    def make(self, route: str, fields: dict[str, Any], **files: bytes) -> np.ndarray:
        """The frames of the video that a route makes of these fields and files.

        Raises:
            httpx.HTTPStatusError: the request was refused; RuntimeError: the job failed.
        """
        given = {name: (name, content) for name, content in files.items()}
        body: dict[str, Any] = {"data": fields, "files": given} if given else {"json": fields}
        made = self._checked(self._client.post(route, **body))
        while made["status"] not in ("completed", "failed"):
            time.sleep(0.1)
            made = self._checked(self._client.get(f"/videos/{made['id']}"))
        if made["status"] == "failed":
            raise RuntimeError(f"{route} failed: {made['error']}")
        path = self._folder / "got.mp4"
        path.write_bytes(self._client.get(f"/videos/{made['id']}/content").content)
        return read_frames(path)

    def keep_character(self, name: str, clip: bytes) -> str:
        """The id of a character."""
        return self._checked(self._client.post("/videos/characters", data={"name": name}, files={"video": clip}))["id"]

    def upload(self, frames: np.ndarray) -> tuple[bytes, np.ndarray]:
        """A clip as a file, and the frames that the file holds."""
        path = self._folder / "given.mp4"
        write_mp4(path, frames, FPS)
        return path.read_bytes(), read_frames(path)

    @staticmethod
    def _checked(reply: httpx.Response) -> dict[str, Any]:
        reply.raise_for_status()
        return reply.json()


def png_of(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return content.getvalue()


def size_of(video: np.ndarray) -> str:
    """As the wire has it."""
    return f"{video.shape[2]}x{video.shape[1]}"
