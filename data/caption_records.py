"""A caption as the catalog keeps it, and the journal of all that one captioner ever made."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.catalog import read_table
from data.workspace import Workspace
from model.config import digest_of

_SIDECAR_ORIGIN = "sidecar"


@dataclass(frozen=True)
class Caption:
    """One row of captions.parquet; `structured` is a JSON object, `producer` the digest of what made it."""

    clip_id: str
    short: str
    dense: str
    structured: str
    origin: str
    producer: str


def sidecar_caption(clip: dict[str, Any]) -> Caption | None:
    """The caption that came with the source, or None; a missing form is taken from the other."""
    short, dense = (clip.get("sidecar_short") or "").strip(), (clip.get("sidecar_dense") or "").strip()
    if not short and not dense:
        return None
    structured = clip.get("sidecar_structured") or "{}"
    producer = digest_of({"kind": _SIDECAR_ORIGIN})
    return Caption(clip["clip_id"], short or dense, dense or short, structured, _SIDECAR_ORIGIN, producer)


class CaptionJournal:
    """All captions that one producer ever made here, one JSON line each; a killed writer loses one batch."""

    def __init__(self, workspace: Workspace, producer: str) -> None:
        self.path: Path = workspace.catalog / "captions" / f"{producer}.jsonl"

    def read(self) -> dict[str, Caption]:
        """The captions by clip id; a last line that was cut short is dropped from the file."""
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        rows = [Caption(**json.loads(line)) for line in data[:whole].splitlines()]
        return {row.clip_id: row for row in rows}

    def append(self, captions: Sequence[Caption]) -> None:
        """Adds captions; they are on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(caption), sort_keys=True) + "\n" for caption in captions]
        with self.path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())


def captions_path(workspace: Workspace) -> Path:
    """Where the table of captions lies."""
    return workspace.catalog / "captions.parquet"


def read_captions(workspace: Workspace) -> list[Caption]:
    """The rows of captions.parquet; none when nothing was captioned yet."""
    return [Caption(**row) for row in read_table(captions_path(workspace))]
