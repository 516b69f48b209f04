import json
import sys

import pytest

from flows import bench
from flows.bench import run_benchmark, write_page
from model.errors import ConfigError

FAKE = """
from flows.bench import Measurement
def measure():
    found = Measurement(what="reads | all", ours=20.0, unit="MB/s", peer=10.0, peer_name="them", goal="2x", holds=True)
    return {"": found, "second row": found}
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_benchmark.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path / "artifacts"))
    monkeypatch.setitem(bench.BENCHMARKS, "reading", "fake_benchmark:measure")
    yield
    sys.modules.pop("fake_benchmark", None)


def test_a_result_says_what_the_reader_needs(fake, tmp_path):
    run_benchmark("reading")
    written = json.loads((tmp_path / "artifacts/bench/reading.json").read_text())
    assert written["ratio"] == 2.0
    assert written["holds"] is True
    assert written["command"] == "skyloom bench reading"
    assert written["machine"]


def test_the_page_is_made_from_the_results_and_keeps_older_rows(fake, tmp_path):
    page = tmp_path / "benchmarks.md"
    run_benchmark("reading")
    write_page(page)
    page.write_text(page.read_text() + "| oldest | gone | 1 | | | | yes | m | d | `skyloom bench that-is-no-more` |\n")
    page.write_text(page.read_text() + "| older | kept | 1 | | | | yes | m | d | `skyloom bench load` |\n")
    write_page(page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "| what |" not in line]
    assert [row.split("|")[1].strip() for row in rows] == ["older", "reading", "reading-second-row"]
    assert "reads \\| all" in page.read_text()


def test_rows_that_a_benchmark_gives_no_more_are_dropped(fake, tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    run_benchmark("reading")
    write_page(page)
    page.write_text(page.read_text() + "| reading-old | gone | 1 | | | | yes | m | d | `skyloom bench reading` |\n")
    (tmp_path / "fake_benchmark.py").write_text(FAKE.replace('"second row": found', '"third row": found'))
    sys.modules.pop("fake_benchmark")
    run_benchmark("reading")
    write_page(page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "| what |" not in line]
    assert [row.split("|")[1].strip() for row in rows] == ["reading", "reading-third-row"]


def test_an_unknown_benchmark_is_named():
    with pytest.raises(ConfigError, match="nothing"):
        run_benchmark("nothing")
