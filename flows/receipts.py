"""Receipts: the proof that a stage is done, so that the same work is never done twice.

A receipt is written last, in one step, when a stage has ended. Its key says what the stage was made from: the stage,
the version of its code, its settings and the digests of the stages before it. As long as the key stays the same and
the outputs are still there, the stage is kept; whatever a killed stage left behind has no receipt and is done again.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from data.atomic import replacing
from data.stage import Figures, StageResult
from data.workspace import Workspace
from model.config import digest_of

_DIGEST = re.compile(r"[0-9a-f]{32,}")


class Output(BaseModel, frozen=True, extra="forbid"):
    """One file or folder that a stage made."""

    path: str = Field(description="relative to the workspace's root")
    num_bytes: int = Field(ge=0, description="size of the file, or of all files below the folder")


class Receipt(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="strings"):
    """What a finished stage took, gave and left on disk; a figure that is not a number is kept as text."""

    stage: str
    key: str
    digest: str
    seconds: float = Field(ge=0)
    started_at: str = Field(description="UTC, ISO 8601")
    took: Figures = {}
    gave: Figures = {}
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True)
class Timing:
    """When a stage began, and how long it took."""

    started_at: str
    seconds: float


def stage_key(stage: str, version: int, settings: Any, upstream: dict[str, str]) -> str:
    """The key under which a stage's result is valid: 64 hex digits."""
    return digest_of({"stage": stage, "version": version, "settings": settings, "upstream": upstream})


def make_receipt(stage: str, key: str, result: StageResult, timing: Timing, root: Path) -> Receipt:
    """The receipt of a stage that has just ended; every output must lie under `root`."""
    outputs = tuple(
        Output(path=str(path.absolute().relative_to(root.absolute())), num_bytes=size_of(path))
        for path in result.outputs
    )
    return Receipt(
        stage=stage,
        key=key,
        digest=result.digest,
        seconds=round(timing.seconds, 3),
        started_at=timing.started_at,
        took=result.took,
        gave=result.gave,
        outputs=outputs,
    )


def write_receipt(receipt: Receipt, workspace: Workspace) -> None:
    """Puts the receipt in its place in one step, so that it is there whole or not at all."""
    with replacing(workspace.receipts / f"{receipt.stage}.json") as partial:
        partial.write_text(receipt.model_dump_json(indent=1) + "\n")


def read_receipt(stage: str, workspace: Workspace) -> Receipt | None:
    """The stage's last receipt, or None when there is none that can be read."""
    try:
        return Receipt.model_validate_json((workspace.receipts / f"{stage}.json").read_text())
    except (FileNotFoundError, ValidationError):
        return None


def read_receipts(workspace: Workspace) -> list[Receipt]:
    """All receipts of the workspace, in the order in which their stages began."""
    names = (path.stem for path in workspace.receipts.glob("*.json"))
    found = (read_receipt(name, workspace) for name in names)
    return sorted((receipt for receipt in found if receipt), key=lambda receipt: receipt.started_at)


def is_valid(receipt: Receipt | None, key: str, workspace: Workspace) -> bool:
    """Whether the receipt has this key and everything it names is still there.

    An output may have grown (a database does), but one that shrank was cut or emptied.
    """
    if receipt is None or receipt.key != key:
        return False
    return all(_present(workspace.root / output.path, output.num_bytes) for output in receipt.outputs)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all the files below a folder."""
    return sum(entry.lstat().st_size for entry in _files(path))


def source_fingerprint(folder: Path) -> str:
    """A digest that changes when a file below the folder is added, removed, renamed or written.

    It reads no contents: size, modification and change time tell, and the change time cannot be set back by `touch`.
    When it changes for nothing (a folder was copied), curation runs again, finds the same contents and everything
    after it is kept.
    """
    listing = [
        [str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        for path in sorted(_files(folder))
        for stat in [path.lstat()]
    ]
    return digest_of(listing)


def figures(values: Figures) -> str:
    """Figures as one line of text: `films 40, clips 1,800`; digests are shortened, what is empty is left out."""
    shown = ((name.replace("_", " "), _shown(value)) for name, value in values.items())
    return ", ".join(f"{name} {text}" for name, text in shown if text)


def _shown(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return value[:12] if _DIGEST.fullmatch(value) else value


def _present(path: Path, num_bytes: int) -> bool:
    return path.exists() and size_of(path) >= num_bytes


def _files(path: Path) -> Iterator[Path]:
    """The files at or below a path; links are named but not followed, so that a loop of links ends."""
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
