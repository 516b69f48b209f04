"""The kept clips of a catalog, decoded into memory by bucket, and a split that depends on each clip alone."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.catalog import read_table
from data.video import read_frames
from data.workspace import Workspace
from model.config import digest_of
from model.errors import StageError


@dataclass(frozen=True)
class ClipSet:
    """Clips of equal size: their catalog rows and their frames, uint8 `N T H W C`, in the same order."""

    bucket: str
    rows: list[dict[str, Any]]
    frames: np.ndarray


def kept_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """The catalog rows of kept clips, sorted by clip id.

    Raises:
        StageError: there is none.
    """
    rows = [row for row in read_table(workspace.catalog / "clips.parquet") if row["status"] == "kept"]
    if not rows:
        raise StageError(f"no kept clip in {workspace.catalog}; run `skyloom curate` on a folder with usable video")
    return sorted(rows, key=lambda row: row["clip_id"])


def load_clips(root: Path, rows: list[dict[str, Any]]) -> dict[str, ClipSet]:
    """The frames of these rows by bucket, in the order of the rows."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        frames = list(pool.map(lambda row: read_frames(root / row["path"]), rows))
    sets = {}
    for bucket in sorted({row["bucket"] for row in rows}):
        chosen = [index for index, row in enumerate(rows) if row["bucket"] == bucket]
        sets[bucket] = ClipSet(bucket, [rows[index] for index in chosen], np.stack([frames[index] for index in chosen]))
    return sets


def clips_in_order(workspace: Workspace, rows: list[dict[str, Any]]) -> list[np.ndarray]:
    """The frames of these rows, uint8 `T H W C` each, in their order."""
    by_id: dict[str, np.ndarray] = {}
    for chosen in load_clips(workspace.root, rows).values():
        by_id |= {row["clip_id"]: frames for row, frames in zip(chosen.rows, chosen.frames, strict=True)}
    return [by_id[row["clip_id"]] for row in rows]


def clips_digest(rows: list[dict[str, Any]]) -> str:
    """What a training on these clips depends on: their ids, file digests and own captions."""
    return digest_of([[row["clip_id"], row["digest"], row["sidecar_dense"], row["sidecar_short"]] for row in rows])


def is_held_out(clip_id: str, fraction: float) -> bool:
    """Whether a clip belongs to the validation part: a function of its id alone."""
    return int(clip_id[:8], 16) / 16**8 < fraction
