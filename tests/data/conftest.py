"""A small workspace as curation and captioning leave it: real clips on disk, their rows in the catalog."""

import hashlib
import json

import numpy as np
import pytest

from data.catalog import write_table
from data.video import write_mp4
from data.workspace import Workspace
from model.config import digest_of


def make_clip(workspace, name, bucket="32x16x8", *, fps=8, status="kept", **columns):
    """A catalog row and its clip file: a colour of its own for each name, brighter with time."""
    width, height, num_frames = map(int, bucket.split("x"))
    clip_id = digest_of(name)
    path = workspace.clips / f"{clip_id}.mp4"
    colour = np.frombuffer(bytes.fromhex(clip_id[:6]), np.uint8) // 2
    ramp = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 4
    frames = np.broadcast_to(colour + ramp, (num_frames, height, width, 3)).astype(np.uint8)
    write_mp4(path, frames, fps)
    return {
        "clip_id": clip_id,
        "bucket": bucket,
        "fps": float(fps),
        "path": str(path.relative_to(workspace.root)),
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "status": status,
        **columns,
    }


def make_caption(clip, **columns):
    row = {
        "clip_id": clip["clip_id"],
        "short": f"short of {clip['clip_id'][:6]}",
        "dense": f"dense of {clip['clip_id'][:6]} with many more words",
        "structured": json.dumps({"subject": clip["clip_id"][:4]}),
        "origin": "sidecar",
        "producer": "p" * 64,
    }
    return row | columns


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "run")


@pytest.fixture
def write_clips(workspace):
    def write(rows):
        write_table(workspace.catalog / "clips.parquet", rows)
        return rows

    return write


@pytest.fixture
def clip_row(workspace):
    def make(name, bucket="32x16x8", **columns):
        return make_clip(workspace, name, bucket, **columns)

    return make


@pytest.fixture
def caption_row():
    return make_caption


@pytest.fixture
def captioned(workspace, write_clips):
    """Seven kept clips of two buckets with captions, and a dropped one without."""
    rows = [make_clip(workspace, f"wide {index}") for index in range(4)]
    rows += [make_clip(workspace, f"tall {index}", "16x32x8") for index in range(3)]
    rows += [make_clip(workspace, "still", status="dropped", drop_reason="too static")]
    write_clips(rows)
    kept = [row for row in rows if row["status"] == "kept"]
    write_table(workspace.catalog / "captions.parquet", [make_caption(row) for row in kept])
    return kept
