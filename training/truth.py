"""The world's truth about a clip: which shot it shows and what was asked for there. Only evaluation reads it."""

import json
from pathlib import Path
from typing import Any

from data.catalog import read_table
from data.workspace import Workspace
from data.worlds.captions import COUNTS, VALUES

MINIMUM_OVERLAP = 0.5


def truth_of_clips(workspace: Workspace, rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The attributes of the shot that each clip shows, by clip id; clips without a known shot are left out."""
    stems = {row["source_id"]: Path(row["path"]).stem for row in read_table(workspace.catalog / "sources.parquet")}
    tracks: dict[str, list[dict[str, Any]]] = {}
    truth = {}
    for row in rows:
        stem = stems[row["source_id"]]
        if stem not in tracks:
            tracks[stem] = read_track(workspace.truth / f"{stem}.json")
        shot = covering_shot(tracks[stem], row["start_s"], row["end_s"])
        if shot:
            truth[row["clip_id"]] = shot["attributes"]
    return truth


def shown_values(truth: dict[str, dict[str, str]]) -> dict[str, tuple[str, ...]]:
    """The attributes that differ between these clips, each with all that it can be."""
    return {
        name: values
        for name, values in VALUES.items()
        if len({attributes.get(name) for attributes in truth.values()}) > 1
    }


def largest_count(truth: dict[str, dict[str, str]]) -> int:
    """The most objects that a clip shows."""
    return max(COUNTS.index(attributes["count"]) + 1 for attributes in truth.values())


def read_track(path: Path) -> list[dict[str, Any]]:
    """The shots of one film's truth track, or none where there is no track."""
    return json.loads(path.read_text())["shots"] if path.is_file() else []


def covering_shot(shots: list[dict[str, Any]], start_s: float, end_s: float) -> dict[str, Any] | None:
    """The shot that covers most of a span, if it covers more than half of it."""
    best, best_overlap = None, MINIMUM_OVERLAP * (end_s - start_s)
    for shot in shots:
        overlap = min(end_s, shot["end_s"]) - max(start_s, shot["start_s"])
        if overlap > best_overlap:
            best, best_overlap = shot, overlap
    return best
