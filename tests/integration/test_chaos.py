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


def started(home):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            COMMAND, env=environment | {"SKYLOOM_HOME": str(home)}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )


def finish(home):
    assert started(home).wait(900) == 0, (home / "log").read_text()[-3000:]


def wait_for(middle, process, home):
    """Returns as soon as `middle` says that a stage of the line is half done."""
    deadline = time.monotonic() + 600
    while not middle():
        assert process.poll() is None, f"the line ended before the kill: {(home / 'log').read_text()[-3000:]}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_prefect_of(process):
    """Kills the Prefect server that the line started; gives its process id."""
    while True:
        for each in psutil.Process(process.pid).children(recursive=True):
            if any("prefect.server" in word for word in each.cmdline()):
                each.kill()
                return each.pid
        time.sleep(0.1)


def contents(folder):
    """Digest by file name of the tars, the manifest and the card of a dataset."""
    paths = [*folder.glob("*.tar"), folder / "manifest.parquet", folder / "dataset.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    home = tmp_path_factory.mktemp("unbroken")
    finish(home)
    return Workspace(home / "tiny")


def middles(place):
    """Of each stage to be hit, its name and whether it is half done."""
    hit = (("curate", place.clips, "*.mp4"), ("encode", place.latents, "*.tar"))
    for stage, folder, pattern in (*hit, ("train", place.checkpoints("transformer"), "*/COMMITTED*")):
        yield stage, lambda folder=folder, pattern=pattern: any(folder.glob(pattern))


def check_same(place, unbroken):
    assert contents(place.shards) == contents(unbroken.shards)
    assert contents(place.latents) == contents(unbroken.latents)
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (place.pipeline / weights).read_bytes() == (unbroken.pipeline / weights).read_bytes()


def test_a_line_killed_three_times_ends_with_the_same_bytes(unbroken, tmp_path):
    place = Workspace(tmp_path / "tiny")
    for stage, middle in middles(place):
        process = started(tmp_path)
        wait_for(middle, process, tmp_path)
        process.kill()
        process.wait()
        assert not (place.receipts / f"{stage}.json").exists()
    finish(tmp_path)
    check_same(place, unbroken)


def test_a_line_whose_prefect_is_killed_three_times_goes_on(unbroken, tmp_path):
    place, process = Workspace(tmp_path / "tiny"), started(tmp_path)
    killed = set()
    for _, middle in middles(place):
        wait_for(middle, process, tmp_path)
        killed.add(kill_prefect_of(process))
    assert process.wait(900) == 0, (tmp_path / "log").read_text()[-3000:]
    assert len(killed) == 3
    assert (tmp_path / "log").read_text().count("it is started again") == 3
    check_same(place, unbroken)
