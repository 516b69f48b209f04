"""The report of a run: one HTML file that needs no other, with everything a reader wants to see or check."""

import base64
import json
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from data.atomic import replacing
from data.catalog import read_table
from data.workspace import Workspace
from flows.bench import machine
from flows.charts import Curve, line_chart
from flows.home import workspace as workspace_at
from flows.receipts import Receipt, figures, read_receipts
from flows.stages import STAGES

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"
MOST_SAMPLES = 24


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: its share of the longest is between 0 and 1."""

    label: str
    value: str
    share: float
    kind: str = ""


def write_report(workspace: Workspace) -> Path:
    """Writes report.html in the workspace from what lies there; parts of the line that have not run are left out."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(("j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(view(workspace))
    path = workspace.root / "report.html"
    with replacing(path) as partial:
        partial.write_text(page)
    return path


def view(workspace: Workspace) -> dict[str, Any]:
    """What the template shows, as plain values."""
    receipts = [receipt for receipt in read_receipts(workspace) if receipt.stage in STAGES]
    receipts.sort(key=lambda receipt: list(STAGES).index(receipt.stage))
    results = _json(workspace.evaluation / "results.json") or {}
    is_default = workspace.root == workspace_at(None, "demo").root
    return {
        "name": workspace.root.name,
        "folder": str(workspace.root),
        "machine": machine(),
        "finished": _finished(receipts),
        "total": _duration(sum(receipt.seconds for receipt in receipts)),
        "videos": _hero(workspace),
        "stages": _stages(receipts),
        "funnel": _funnel(workspace),
        "quarantine": read_table(workspace.catalog / "quarantine.parquet"),
        "curves": _curves(workspace),
        "adherence": _adherence(results),
        "captions": ", ".join(f"{name} {_share(share):.0%}" for name, share in results.get("captions", {}).items()),
        "samples": _samples(results.get("samples", []), workspace),
        "lineage": [(receipt.stage, STAGES[receipt.stage].title, receipt.digest) for receipt in receipts],
        "at": "" if is_default else f" --workspace {workspace.root}",
    }


def _finished(receipts: list[Receipt]) -> str:
    latest = max((receipt.started_at for receipt in receipts), default=None)
    return datetime.fromisoformat(latest).strftime("%d %B %Y, %H:%M UTC") if latest else "not yet"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _stages(receipts: list[Receipt]) -> list[dict[str, Any]]:
    longest = max((receipt.seconds for receipt in receipts), default=1.0) or 1.0
    return [
        {
            "name": receipt.stage,
            "title": STAGES[receipt.stage].title,
            "took": figures(receipt.took),
            "gave": figures(receipt.gave),
            "time": _duration(receipt.seconds),
            "share": receipt.seconds / longest,
        }
        for receipt in receipts
    ]


def _hero(workspace: Workspace) -> list[dict[str, Any]]:
    entries = _json(workspace.videos / "videos.json") or []
    return [
        {"src": _embed(workspace.videos / entry["file"]), **entry}
        for entry in entries
        if (workspace.videos / entry["file"]).exists()
    ]


def _funnel(workspace: Workspace) -> list[Bar]:
    """What went in and what stayed: files first, then clips, with one bar for each reason to drop."""
    sources = Counter(row["status"] for row in read_table(workspace.catalog / "sources.parquet"))
    clips = read_table(workspace.catalog / "clips.parquet")
    drops = Counter(row["drop_reason"] for row in clips if row["status"] == "dropped")
    origins = Counter(row["origin"] for row in read_table(workspace.catalog / "captions.parquet"))
    failed = len(read_table(workspace.catalog / "quarantine.parquet"))
    files = max(sources.total(), sources["ok"] + sources["duplicate"] + failed)
    kept = sum(row["status"] == "kept" for row in clips)
    rows = [("files found", files, files, "whole")]
    rows += [("duplicate files", sources["duplicate"], files, "drop"), ("quarantined", failed, files, "drop")]
    rows += [("files used", sources["ok"], files, "kept"), ("clips cut", len(clips), len(clips), "whole")]
    rows += [(f"dropped: {reason}", count, len(clips), "drop") for reason, count in drops.most_common()]
    rows += [("clips kept", kept, len(clips), "kept")]
    rows += [(f"captions by {origin}", count, len(clips), "kept") for origin, count in origins.most_common()]
    return [
        Bar(label, f"{count:,}", count / whole, kind)
        for label, count, whole, kind in rows
        if whole and (count or kind != "drop")
    ]


def _curves(workspace: Workspace) -> list[dict[str, Any]]:
    curves = []
    for path in sorted(workspace.logs.glob("*.jsonl")):
        records = [record for record in _records(path) if "step" in record and "loss" in record]
        curve = Curve([record["step"] for record in records], [record["loss"] for record in records])
        chart = line_chart(curve, label=f"loss of {path.stem} over steps")
        if chart:
            curves.append({"name": path.stem, "svg": chart, "last": f"{curve.values[-1]:.4g}"})
    return curves


def _adherence(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each attribute, and one for coherence; figures are shares between 0 and 1."""
    found: dict[str, dict[str, Any]] = dict(results.get("adherence", {}))
    if results.get("coherence"):
        found["one object stays one"] = results["coherence"]
    rows = []
    for name, values in found.items():
        shares = {key: _share(value) for key, value in values.items() if isinstance(value, int | float)}
        goal, generated = shares.get("goal"), shares.get("generated", 0.0)
        verdict = "" if goal is None else "holds" if generated >= goal else "missed"
        rows.append({"name": "all together" if name == "all" else name, "verdict": verdict, "shares": shares})
    return rows


def _share(value: float) -> float:
    return min(1.0, value if value <= 1 else value / 100)


def _samples(samples: list[dict[str, Any]], workspace: Workspace) -> list[dict[str, Any]]:
    shown = []
    for sample in samples[:MOST_SAMPLES]:
        pictures = {side: _locate(sample.get(side), workspace) for side in ("video", "starter", "real")}
        if pictures["video"]:
            embedded = {side: _embed(path) if path else None for side, path in pictures.items()}
            shown.append({"prompt": sample["prompt"], **embedded})
    return shown


def _locate(name: str | None, workspace: Workspace) -> Path | None:
    """The file that an evaluation names: relative to its own folder, or to the workspace."""
    if not name:
        return None
    return next((path for path in (workspace.evaluation / name, workspace.root / name) if path.is_file()), None)


def _embed(path: Path) -> Markup:
    return Markup(f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}")


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that a killed process left half-written is passed over."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            log.warning("%s has a line that is not JSON; it was left out of the report", path)
    return records
