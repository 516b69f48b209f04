"""Byte-reproducible tars: the same members give the same file, and each member can be read by its offset."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.atomic import replacing
from model.errors import ShardError

_MEMBER_MODE = 0o444


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member as it lies in the file: `offset` is where its data begins, `digest` the sha256 of it."""

    name: str
    offset: int
    size: int
    digest: str


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> list[TarEntry]:
    """Writes a tar atomically with fixed time, owner and mode, members in the order given; its entries."""
    with replacing(path) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in members:
                header = tarfile.TarInfo(name)
                header.size, header.mode, header.mtime = len(data), _MEMBER_MODE, 0
                tar.addfile(header, io.BytesIO(data))
        return index_tar(partial)


def index_tar(path: Path) -> list[TarEntry]:
    """Every member of a tar, in order, with its place and digest; reads the whole file.

    Raises:
        ShardError: the file is cut short, not a tar, or holds anything but plain files by plain names.
    """
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            return [_entry(header, file) for header in tar]
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path} is not a whole tar ({error}); delete it and run the stage again") from error


def _entry(header: tarfile.TarInfo, file: io.BufferedReader) -> TarEntry:
    name = PurePosixPath(header.name)
    # we never unpack, but another reader of the same shard may
    if not header.isreg() or name.is_absolute() or ".." in name.parts:
        raise tarfile.ReadError(f"{header.name!r} is a link, a device, or a name that leads out")
    file.seek(header.offset_data)
    data = file.read(header.size)
    if len(data) != header.size:
        raise tarfile.ReadError(f"{header.name} ends after {len(data)} of {header.size} bytes")
    return TarEntry(header.name, header.offset_data, header.size, hashlib.sha256(data).hexdigest())
