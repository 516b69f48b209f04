"""Kept clips and captions as WebDataset shards: one tar per group and range of clips, equal keys in each."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from data.atomic import remove_partials
from data.caption_records import Caption, read_captions
from data.catalog import read_table
from data.config import ShardConfig
from data.manifest import Member, publish, retract
from data.stage import StageResult
from data.tars import TarEntry, index_tar, write_tar
from data.workspace import Workspace
from model.errors import ShardError, StageError

logger = logging.getLogger(__name__)

VIDEO_GROUP = "video"
TEXT_GROUP = "text"


@dataclass(frozen=True)
class Content:
    """A member that a shard is to hold: its digest is known before its bytes are read."""

    key: str
    name: str
    digest: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ShardSpan:
    """The clips of shard number `index`, all of one bucket."""

    index: int
    bucket: str
    rows: list[dict[str, Any]]


def write_dataset(config: ShardConfig, workspace: Workspace) -> StageResult:
    """The video and text shards of every captioned clip; shards that already hold their content stay.

    Raises:
        StageError: no kept clip has a caption.
        ShardError: a clip's file is not the one that curation recorded.
    """
    began_s = time.monotonic()
    folder = workspace.shards
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    clips, captions, num_kept = _captioned_clips(workspace)
    members: dict[str, list[Member]] = {VIDEO_GROUP: [], TEXT_GROUP: []}
    num_written = 0
    for span in plan_shards(clips, config.clips_per_shard):
        for group, contents in _contents(span, captions, workspace).items():
            path = folder / shard_name(group, span.index)
            entries, written = ensure_shard(path, contents)
            num_written += written
            members[group] += to_members(entries, contents, group=group, path=path, bucket=span.bucket)
    card = publish(folder, members[VIDEO_GROUP] + members[TEXT_GROUP])
    seconds = time.monotonic() - began_s
    num_bytes = sum((folder / name).stat().st_size for name in card.shards)
    origins = Counter(captions[clip["clip_id"]].origin for clip in clips)
    return StageResult(
        digest=card.dataset_id,
        outputs=[folder],
        took={"clips": num_kept, "captions": len(captions)},
        gave={
            "dataset_id": card.dataset_id,
            "clips": card.num_clips,
            "uncaptioned": num_kept - card.num_clips,
            "shards": len(card.shards),
            "shards_written": num_written,
            "bytes": num_bytes,
            "seconds": round(seconds, 3),
            "clips_per_s": round(card.num_clips / seconds, 2),
            **{f"captions_{origin}": count for origin, count in sorted(origins.items())},
        },
    )


def _captioned_clips(workspace: Workspace) -> tuple[list[dict[str, Any]], dict[str, Caption], int]:
    kept = [clip for clip in read_table(workspace.catalog / "clips.parquet") if clip["status"] == "kept"]
    captions = {caption.clip_id: caption for caption in read_captions(workspace)}
    clips = [clip for clip in kept if clip["clip_id"] in captions]
    if not clips:
        raise StageError(f"none of {len(kept)} kept clips has a caption; run curation and caption_clips first")
    if len(clips) < len(kept):
        logger.warning("%d kept clips have no caption and stay out of the dataset", len(kept) - len(clips))
    return clips, captions, len(kept)


def plan_shards(clips: Iterable[dict[str, Any]], clips_per_shard: int) -> list[ShardSpan]:
    """Which clips each shard holds: sorted by bucket and id, one bucket to a shard."""
    ordered = sorted(clips, key=lambda clip: (clip["bucket"], clip["clip_id"]))
    spans: list[ShardSpan] = []
    for bucket, group in groupby(ordered, key=lambda clip: clip["bucket"]):
        rows = list(group)
        for start in range(0, len(rows), clips_per_shard):
            spans.append(ShardSpan(len(spans), bucket, rows[start : start + clips_per_shard]))
    return spans


def shard_name(group: str, index: int) -> str:
    """The file name of a group's shard."""
    return f"{group}-{index:05d}.tar"


def _contents(span: ShardSpan, captions: dict[str, Caption], workspace: Workspace) -> dict[str, list[Content]]:
    return {
        VIDEO_GROUP: [_video_content(clip, workspace) for clip in span.rows],
        TEXT_GROUP: [_text_content(captions[clip["clip_id"]]) for clip in span.rows],
    }


def _video_content(clip: dict[str, Any], workspace: Workspace) -> Content:
    path: Path = workspace.root / clip["path"]
    return Content(clip["clip_id"], f"{clip['clip_id']}.mp4", clip["digest"], path.read_bytes)


def _text_content(caption: Caption) -> Content:
    record = {
        "short": caption.short,
        "dense": caption.dense,
        "structured": json.loads(caption.structured),
        "origin": caption.origin,
    }
    data = json.dumps(record, sort_keys=True, ensure_ascii=False).encode()
    return Content(caption.clip_id, f"{caption.clip_id}.json", hashlib.sha256(data).hexdigest(), lambda: data)


def ensure_shard(path: Path, contents: Sequence[Content]) -> tuple[list[TarEntry], bool]:
    """The entries of a shard with exactly these contents, and whether it had to be written.

    Raises:
        ShardError: the bytes of a content are not those that its digest names.
    """
    wanted = [(content.name, content.digest) for content in contents]
    entries = existing_entries(path)
    if [(entry.name, entry.digest) for entry in entries] == wanted:
        return entries, False
    retract(path.parent)
    return write_tar(path, ((content.name, _checked(content)) for content in contents)), True


def existing_entries(path: Path) -> list[TarEntry]:
    """The entries of a shard that may be there already; none when it is missing or damaged."""
    if not path.exists():
        return []
    try:
        return index_tar(path)
    except ShardError as error:
        logger.warning("%s; it is written again", error)
        return []


def _checked(content: Content) -> bytes:
    try:
        data = content.read()
    except FileNotFoundError as error:
        raise ShardError(f"{content.name} is in the catalog but not on disk ({error}); curate again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != content.digest:
        raise ShardError(f"{content.name} hashes to {digest[:12]}, not {content.digest[:12]} as recorded; curate again")
    return data


def to_members(
    entries: Sequence[TarEntry], contents: Sequence[Content], *, group: str, path: Path, bucket: str
) -> list[Member]:
    """The manifest rows of one shard."""
    return [
        Member(content.key, group, path.name, entry.offset, entry.size, bucket, entry.digest)
        for entry, content in zip(entries, contents, strict=True)
    ]
