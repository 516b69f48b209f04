"""Signal 9 amid curation, encoding and training, to the line or to its Prefect: the bytes are the same (R8)."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data.workspace import Workspace

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400)]

COMMAND = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())", "demo", "--preset", "tiny"]
ROOT = Path(__file__).parents[2]
ENDS_WITHIN_S = 300  # a line whose Prefect is gone says so, or ends its work without


def started(home):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            COMMAND, env=environment | {"SKYLOOM_HOME": str(home)}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )


def finish(home):
    assert started(home).wait(900) == 0, (home / "log").read_text()[-3000:]


def kill_when(home, middle, victim):
    """Starts the line and ends the victim with signal 9 as soon as `middle` says that the stage is half done."""
    process = started(home)
    deadline = time.monotonic() + 600
    while not middle():
        assert process.poll() is None, f"the line ended before the kill: {(home / 'log').read_text()[-3000:]}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    prefect_of(process).kill() if victim == "prefect" else process.kill()
    process.wait(ENDS_WITHIN_S)


def prefect_of(process):
    """The Prefect server that the line started."""
    below = psutil.Process(process.pid).children(recursive=True)
    return next(each for each in below if any("prefect.server" in word for word in each.cmdline()))


def contents(folder):
    """Digest by file name of the tars, the manifest and the card of a dataset."""
    paths = [*folder.glob("*.tar"), folder / "manifest.parquet", folder / "dataset.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    home = tmp_path_factory.mktemp("unbroken")
    finish(home)
    return Workspace(home / "tiny")


@pytest.mark.parametrize("victim", ["line", "prefect"])
def test_a_line_killed_three_times_ends_with_the_same_bytes(unbroken, tmp_path, victim):
    place = Workspace(tmp_path / "tiny")
    for stage, folder, pattern in (
        ("curate", place.clips, "*.mp4"),
        ("encode", place.latents, "*.tar"),
        ("train", place.checkpoints("transformer"), "*/COMMITTED*"),
    ):
        kill_when(tmp_path, lambda folder=folder, pattern=pattern: any(folder.glob(pattern)), victim)
        assert not (place.receipts / f"{stage}.json").exists()
    finish(tmp_path)
    assert contents(place.shards) == contents(unbroken.shards)
    assert contents(place.latents) == contents(unbroken.latents)
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (place.pipeline / weights).read_bytes() == (unbroken.pipeline / weights).read_bytes()
