"""What a file's first bytes say: which demuxer may read it, and how long the file claims to be."""

from pathlib import Path
from typing import BinaryIO

from model.errors import DecodeError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_HEAD_BYTES = 12


def demuxer_of(path: Path) -> str:
    """The one demuxer allowed for this file (`mp4`, `matroska` or `avi`), by signature, never by name.

    A fixed demuxer keeps playlists (HLS, DASH, concat) from being opened, which would read other files.

    Raises:
        DecodeError: the signature is none of these.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head.startswith(_EBML):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    raise DecodeError(f"{path.name} starts with {head[:8]!r}, which is no MP4/MOV, Matroska/WebM or AVI file")


def check_complete(path: Path) -> None:
    """Returns when the file is at least as long as its own outermost boxes claim.

    A decoder often ends quietly at a cut, so the loss shows only here.

    Raises:
        DecodeError: the file is shorter than it claims, as after a broken download.
    """
    num_bytes = path.stat().st_size
    claims = {"mp4": _mp4_claim, "matroska": _matroska_claim, "avi": _avi_claim}
    with path.open("rb") as file:
        claimed = claims[demuxer_of(path)](file, num_bytes)
    if claimed > num_bytes:
        raise DecodeError(f"{path.name} is truncated: {num_bytes} bytes of {claimed}; fetch it again")


def _mp4_claim(file: BinaryIO, num_bytes: int) -> int:
    """Where the last top-level box ends."""
    end = 0
    while end < num_bytes:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8:
            break  # trailing padding shorter than a box header
        size = int.from_bytes(header[:4], "big")
        if size == 0:  # "to the end of the file"
            return num_bytes
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            break  # trailing zeros or rubbish, which players ignore too
        end += size
    return end


def _matroska_claim(file: BinaryIO, num_bytes: int) -> int:
    """Where the first segment ends; live recordings leave its size open."""
    file.seek(len(_EBML))
    header_size = _ebml_size(file)
    if header_size is None:
        return num_bytes
    file.seek(header_size, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return num_bytes
    size = _ebml_size(file)
    return num_bytes if size is None else file.tell() + size


def _ebml_size(file: BinaryIO) -> int | None:
    """An EBML variable-length size; None when it is 'unknown' (all ones) or missing."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value


def _avi_claim(file: BinaryIO, num_bytes: int) -> int:
    """Where the first RIFF chunk ends; an unfinished recording has 0 there."""
    file.seek(4)
    size = int.from_bytes(file.read(4), "little")
    return size + 8 if size else num_bytes
