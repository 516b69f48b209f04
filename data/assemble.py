"""The catalog's rows, derived from the listing, the per-source records and the thresholds; touches no video."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.catalog import read_table
from data.config import JudgeConfig
from data.dedup import Candidate, near_duplicates
from data.records import ClipRecord, Failure, SourceRecord
from data.sidecars import SidecarCaption, caption_for, read_sidecar
from data.sources import Listing, SourceFile
from data.verdicts import drop_reason
from data.workspace import Workspace
from model.config import digest_of
from model.errors import SourceError

logger = logging.getLogger(__name__)

Row = dict[str, Any]


@dataclass(frozen=True)
class Assembly:
    """The rows of the three tables and the figures of the run."""

    sources: list[Row]
    clips: list[Row]
    quarantine: list[Row]
    figures: dict[str, int | float | str]

    @property
    def num_kept(self) -> int:
        """Clips that no rule dropped."""
        return sum(row["status"] == "kept" for row in self.clips)

    @property
    def digest(self) -> str:
        """Names the clips' content and verdicts; paths and times of day have no part in it."""
        return digest_of(sorted(self.clips, key=lambda row: row["clip_id"]))


def assemble(
    config: JudgeConfig,
    listing: Listing,
    groups: Mapping[str, list[SourceFile]],
    records: Mapping[str, SourceRecord],
    workspace: Workspace,
    *,
    retry: bool,
) -> Assembly:
    """All rows of a run; `groups` holds the files of each source, the one that was used first."""
    quarantine = _listing_rows(listing, workspace, retry=retry)
    sources: list[Row] = []
    clips: list[tuple[ClipRecord, Row, int]] = []
    for source_id, files in groups.items():
        record = records[source_id]
        sources += [_source_row(file, record, files[0]) for file in files]
        if record.failure is not None:
            quarantine.append(_quarantine_row(source_id, files[0].name, record.failure))
            continue
        captions = _captions(files[0], quarantine)
        num_pixels = record.facts.width * record.facts.height if record.facts is not None else 0
        clips += [
            (clip, _clip_row(source_id, clip, captions, config.least_caption_cover), num_pixels)
            for clip in record.clips
        ]
    _judge(clips, config)
    rows = [row for _, row, _ in clips]
    return Assembly(sources, rows, quarantine, _figures(groups, records, rows, quarantine))


def _listing_rows(listing: Listing, workspace: Workspace, *, retry: bool) -> list[Row]:
    """Rows for paths that were never hashed; their attempts are known from the last run's table only."""
    before = {row["path"]: row["attempts"] for row in read_table(workspace.catalog / "quarantine.parquet")}
    rows: list[Row] = []
    for bad in listing.unreadable:
        attempts = max(1, before.get(bad.name, 0) + retry)
        rows.append(_quarantine_row(bad.digest, bad.name, bad.failure.model_copy(update={"attempts": attempts})))
    return rows


def _quarantine_row(digest: str, path: str, failure: Failure) -> Row:
    return {"digest": digest, "path": path, **failure.model_dump()}


def _source_row(file: SourceFile, record: SourceRecord, used: SourceFile) -> Row:
    status = "duplicate" if file is not used else "ok" if record.failure is None else "quarantined"
    return {
        "source_id": file.source_id,
        "path": file.name,
        "num_bytes": file.num_bytes,
        **(record.facts.model_dump() if record.facts is not None else {}),
        "num_shots": record.num_shots,
        "num_clips": len(record.clips),
        "status": status,
        "duplicate_of": used.name if file is not used else None,
    }


def _captions(file: SourceFile, quarantine: list[Row]) -> list[SidecarCaption]:
    """The captions beside a film; a bad caption file is quarantined by itself and the film still used."""
    try:
        return read_sidecar(file.path)
    except SourceError as error:
        failure = Failure(stage="sidecar", error_class="SourceError", message=str(error))
        quarantine.append(_quarantine_row(file.source_id, file.name, failure))
        return []


def _clip_row(source_id: str, clip: ClipRecord, captions: list[SidecarCaption], least_cover: float) -> Row:
    caption = caption_for(captions, clip.start_s, clip.end_s, least_cover)
    structured = caption.structured if caption is not None else None
    return {
        **clip.model_dump(exclude={"scores", "num_bytes"}),
        **clip.scores.model_dump(exclude={"thumbnail"}),
        "source_id": source_id,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "path": f"clips/{clip.clip_id}.mp4",
        "sidecar_short": caption.short if caption is not None else None,
        "sidecar_dense": caption.dense if caption is not None else None,
        "sidecar_structured": None if structured is None else json.dumps(structured, sort_keys=True),
    }


def _judge(clips: list[tuple[ClipRecord, Row, int]], config: JudgeConfig) -> None:
    """Sets status, reason and what a duplicate repeats; only clips that pass the thresholds can be repeated."""
    for clip, row, _ in clips:
        row["drop_reason"] = drop_reason(clip.scores, config.thresholds)
    candidates = [
        Candidate(
            clip.clip_id,
            clip.scores.phash,
            clip.scores.thumbnail,
            row["sidecar_dense"] is not None,
            num_pixels,
            clip.scores.sharpness,
        )
        for clip, row, num_pixels in clips
        if row["drop_reason"] is None
    ]
    repeats = near_duplicates(candidates, config.dedup)
    for clip, row, _ in clips:
        row["duplicate_of"] = repeats.get(clip.clip_id)
        if row["duplicate_of"] is not None:
            row["drop_reason"] = "duplicate"
        row["status"] = "kept" if row["drop_reason"] is None else "dropped"


def _figures(
    groups: Mapping[str, list[SourceFile]],
    records: Mapping[str, SourceRecord],
    clips: list[Row],
    quarantine: list[Row],
) -> dict[str, int | float | str]:
    """The drop funnel, from files to labelled clips."""
    dropped = Counter(row["drop_reason"] for row in clips if row["drop_reason"] is not None)
    kept = [row for row in clips if row["status"] == "kept"]
    return {
        "sources": len(groups),
        "sources ok": sum(record.failure is None for record in records.values()),
        "duplicate files": sum(len(files) - 1 for files in groups.values()),
        "quarantined": len(quarantine),
        "shots": sum(record.num_shots for record in records.values()),
        "shots too short": sum(record.num_short_shots for record in records.values()),
        "clips": len(clips),
        **{f"dropped: {reason}": count for reason, count in sorted(dropped.items())},
        "clips kept": len(kept),
        "labelled clips": sum(row["sidecar_dense"] is not None for row in kept),
    }
