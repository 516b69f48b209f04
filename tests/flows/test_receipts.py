import math
import os

import pytest

from data.stage import StageResult
from data.workspace import Workspace
from flows.receipts import (
    Timing,
    figures,
    is_valid,
    make_receipt,
    read_receipt,
    read_receipts,
    source_fingerprint,
    stage_key,
    write_receipt,
)

TIMING = Timing("2026-11-22T10:00:00+00:00", 1.5)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "run")


@pytest.fixture
def receipt(workspace):
    folder = workspace.clips
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"x" * 100)
    (workspace.root / "table.parquet").write_bytes(b"y" * 50)
    result = StageResult(digest="d" * 64, outputs=[folder, workspace.root / "table.parquet"], gave={"clips": 1})
    made = make_receipt("curate", "key", result, TIMING, workspace.root)
    write_receipt(made, workspace)
    return made


def test_a_receipt_is_read_back_as_it_was_written(workspace, receipt):
    assert read_receipt("curate", workspace) == receipt
    assert [(output.path, output.num_bytes) for output in receipt.outputs] == [("clips", 100), ("table.parquet", 50)]
    assert [path.name for path in workspace.receipts.iterdir()] == ["curate.json"]


def test_a_receipt_holds_while_its_key_and_outputs_stay(workspace, receipt):
    assert is_valid(receipt, "key", workspace)
    assert not is_valid(receipt, "another key", workspace)
    assert not is_valid(None, "key", workspace)


def test_a_lost_or_cut_output_voids_the_receipt(workspace, receipt):
    clip = workspace.clips / "a.mp4"
    clip.write_bytes(b"x" * 101)
    assert is_valid(receipt, "key", workspace), "what grew is still there"
    clip.write_bytes(b"x" * 99)
    assert not is_valid(receipt, "key", workspace)
    clip.unlink()
    assert not is_valid(receipt, "key", workspace)


def test_a_half_written_receipt_counts_as_none(workspace, receipt):
    path = workspace.receipts / "curate.json"
    path.write_text(path.read_text()[:40])
    assert read_receipt("curate", workspace) is None
    assert read_receipts(workspace) == []


@pytest.mark.parametrize("change", [{"stage": "b"}, {"version": 2}, {"settings": {"lr": 2}}, {"upstream": {"a": "2"}}])
def test_everything_that_a_stage_is_made_from_is_in_its_key(change):
    base = {"stage": "a", "version": 1, "settings": {"lr": 1}, "upstream": {"a": "1"}}
    assert stage_key(**base) == stage_key(**base)
    assert stage_key(**base | change) != stage_key(**base)


def test_the_fingerprint_sees_a_file_that_changed_behind_its_path(tmp_path):
    film = tmp_path / "deep" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(b"one")
    before = source_fingerprint(tmp_path)
    assert source_fingerprint(tmp_path) == before
    stat = film.stat()
    film.write_bytes(b"two")
    os.utime(film, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert source_fingerprint(tmp_path) != before, "same size and a forged time, but the change time tells"


def test_the_fingerprint_ends_on_a_loop_of_links(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert source_fingerprint(tmp_path) == source_fingerprint(tmp_path)


def test_figures_read_like_a_sentence():
    found = figures({"num_clips": 1800, "loss": 0.123456, "size_bytes": 1234567.0, "model": "skyloom"})
    assert found == "num clips 1,800, loss 0.1235, size bytes 1,234,567, model skyloom"


def test_a_figure_that_is_not_a_number_does_not_spoil_the_receipt(workspace):
    result = StageResult(digest="d", outputs=[], gave={"loss": math.nan, "clips": 3})
    write_receipt(make_receipt("train", "key", result, TIMING, workspace.root), workspace)
    found = read_receipt("train", workspace)
    assert found is not None
    assert found.gave == {"loss": "NaN", "clips": 3}
