"""The source folder: which files it holds, what their bytes hash to, and why some cannot be read."""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.records import Failure
from model.errors import SourceError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """A readable file with a video suffix; `name` is its path below the source folder, with slashes."""

    name: str
    path: Path
    source_id: str
    num_bytes: int


@dataclass(frozen=True)
class Unreadable:
    """A path that never got as far as being hashed; `digest` is empty unless its bytes were read."""

    name: str
    failure: Failure
    digest: str = ""


@dataclass
class Listing:
    """What a folder holds: readable videos, paths that failed, and how many other files were passed over."""

    files: list[SourceFile] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    num_ignored: int = 0


def list_sources(source_dir: Path) -> Listing:
    """Every video file below the folder, hashed, in name order; hidden and other files are passed over.

    Raises:
        SourceError: the folder does not exist or cannot be listed.
    """
    if not source_dir.is_dir():
        raise SourceError(f"source folder {source_dir} is not a folder; give a folder that holds videos")
    listing = Listing()
    root = source_dir.resolve()
    for path in _walk(root, root, (), listing):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            listing.num_ignored += 1
            continue
        _add(path, _name(path, root), listing)
    return listing


def _walk(folder: Path, root: Path, ancestors: tuple[Path, ...], listing: Listing) -> Iterator[Path]:
    """Files below the folder; links to folders are followed unless they lead back to where we came from."""
    name = _name(folder, root)
    try:
        real = _enter(folder, ancestors)
        entries = sorted(folder.iterdir())
    except (OSError, RuntimeError, SourceError) as error:  # RuntimeError: pathlib's own loop check
        listing.unreadable.append(Unreadable(name, _failure(error)))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(entry, root, (*ancestors, real), listing)
        else:
            yield entry


def _name(path: Path, root: Path) -> str:
    """The path below the root as text that a table can hold: bytes that are no UTF-8 show as escapes."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its folder may be listed but not entered; reading it as a file then gives the reason
        return False


def _enter(folder: Path, ancestors: tuple[Path, ...]) -> Path:
    real = folder.resolve(strict=True)
    if real in ancestors:
        raise SourceError(f"symlink loop: it leads back to {real}, which holds it")
    return real


def _add(path: Path, name: str, listing: Listing) -> None:
    try:
        source_id, num_bytes = hash_file(path)
    except (OSError, RuntimeError, SourceError) as error:
        listing.unreadable.append(Unreadable(name, _failure(error)))
        return
    if num_bytes == 0:
        failure = Failure(stage="list", error_class="SourceError", message="the file is empty (0 bytes)")
        listing.unreadable.append(Unreadable(name, failure, source_id))
        return
    listing.files.append(SourceFile(name, path, source_id, num_bytes))


def hash_file(path: Path) -> tuple[str, int]:
    """The sha256 (hex) and the size of a regular file.

    Raises:
        SourceError: the path is a pipe, a device or another thing whose bytes are not kept.
        OSError: it cannot be opened or read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # before opening: a pipe would block for ever
        raise SourceError(f"{path.name} is not a regular file; copy the video itself into the folder")
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
    return digest.hexdigest(), num_bytes


def _failure(error: Exception) -> Failure:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Failure(stage="list", error_class=type(error).__name__, message=reason)


def group_duplicates(files: list[SourceFile]) -> dict[str, list[SourceFile]]:
    """Files by their bytes; in each group the one to use comes first (one with a sidecar, then by name)."""
    groups: dict[str, list[SourceFile]] = {}
    for file in sorted(files, key=lambda file: (not sidecar_paths(file.path), file.name)):
        groups.setdefault(file.source_id, []).append(file)
    return groups


def sidecar_paths(video: Path) -> list[Path]:
    """The caption files that lie beside a video, the richer one first."""
    candidates = (video.with_suffix(".captions.json"), video.with_suffix(".txt"))
    return [path for path in candidates if path.exists()]
