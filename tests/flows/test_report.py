"""The report of a made-up run: every part is there, nothing is fetched, nothing from a file becomes markup."""

import json
import re

import numpy as np
import pytest

from data.catalog import write_table
from data.stage import StageResult
from data.video import write_mp4
from data.workspace import Workspace
from flows.receipts import Timing, make_receipt, write_receipt
from flows.report import write_report


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path / "run")
    for number, stage in enumerate(("films", "curate", "train")):
        result = StageResult(digest=f"{number}" * 64, outputs=[], took={"files": 7}, gave={"clips": 1234})
        timing = Timing(f"2026-11-22T10:0{number}:00+00:00", 10.0 * number + 1)
        write_receipt(make_receipt(stage, "key", result, timing, place.root), place)
    sources = [{"source_id": "a", "status": "ok"}, {"source_id": "b", "status": "duplicate"}]
    write_table(place.catalog / "sources.parquet", sources)
    clips = [{"clip_id": "1", "status": "kept"}, {"clip_id": "2", "status": "dropped", "drop_reason": "too static"}]
    write_table(place.catalog / "clips.parquet", clips)
    broken = {"digest": "", "path": "<b>.mp4", "stage": "probe", "error_class": "DecodeError", "attempts": 2}
    write_table(place.catalog / "quarantine.parquet", [broken | {"message": "moov atom <not> found"}])
    frames = np.random.default_rng(0).integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
    for path in (place.videos / "video-1.mp4", place.evaluation / "made.mp4", place.evaluation / "real.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, frames, 8)
    entry = {"file": "video-1.mp4", "prompt": "a <red> ball", "size": "64x64", "seconds": "2"}
    (place.videos / "videos.json").write_text(json.dumps([entry]))
    adherence = {"color": {"generated": 0.97, "real": 1.0, "chance": 0.125, "goal": 0.95}}
    adherence["shape"] = {"generated": 0.41, "real": 0.93, "chance": 0.25, "goal": 0.6}
    samples = [{"prompt": "a blue cube", "video": "made.mp4", "real": "real.mp4"}]
    adherence["all"] = {"generated": 0.33, "real": 0.91, "chance": 0.001, "goal": None}
    results = {"adherence": adherence, "coherence": {"generated": 0.8, "goal": 0.75}, "samples": samples}
    (place.evaluation / "results.json").write_text(json.dumps(results))
    place.logs.mkdir()
    lines = [json.dumps({"step": step, "loss": 2 / (step + 1)}) for step in range(50)]
    (place.logs / "train.jsonl").write_text("\n".join([*lines, '{"step": 50, "lo']))
    return place


def test_every_part_of_the_run_is_shown(workspace):
    page = write_report(workspace).read_text()
    assert page.count("data:video/mp4;base64,") == 3
    for part in (
        "clips 1,234",
        "too static",
        "duplicate files",
        "97 %",
        "missed",
        "holds",
        "all together",
        "33 %",
        "one object stays one",
        "80 %",
        "a blue cube",
        "0" * 64,
    ):
        assert part in page, part
    assert page.count("<svg") == 1


def test_the_page_stands_alone_and_runs_no_script(workspace):
    page = write_report(workspace).read_text()
    addresses = set(re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?((?!data:)[^\"')\s>]+)", page))
    assert addresses == set()
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_text_from_files_does_not_become_markup(workspace):
    page = write_report(workspace).read_text()
    assert "a &lt;red&gt; ball" in page
    assert "&lt;b&gt;.mp4" in page
    assert "moov atom &lt;not&gt; found" in page


def test_a_line_that_has_only_begun_has_a_report_too(tmp_path):
    page = write_report(Workspace(tmp_path / "new")).read_text()
    assert "skyloom generate" in page
    assert "<video" not in page


def test_captions_that_training_saw_are_not_called_unseen(workspace):
    assert "Prompts it never saw" in write_report(workspace).read_text()
    path = workspace.evaluation / "results.json"
    path.write_text(json.dumps({"adherence": {}, "samples": json.loads(path.read_text())["samples"]}))
    page = write_report(workspace).read_text()
    assert "Captions of its own clips" in page
    assert "never saw" not in page
