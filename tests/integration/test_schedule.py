"""A schedule of one minute fires on a started worker: the deployments of prefect.yaml, a real server, a real worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.config import CurateConfig
from data.video import write_mp4
from data.workspace import Workspace
from flows.recipes import Recipe, remember
from flows.services import end, launch, quiet_environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]


@pytest.fixture
def place(home):
    """A folder of two captioned videos, and the recipe that makes shards of them."""
    source = home / "source"
    drift = np.arange(64, dtype=np.uint8)
    for number in (1, 2):
        frames = np.stack([np.roll(np.tile(drift * 3, (64, 1)), number * n, axis=1) for n in range(32)])
        (source / f"{number}.txt").parent.mkdir(exist_ok=True)
        (source / f"{number}.txt").write_text(f"stripes drift, number {number}")
        write_mp4(source / f"{number}.mp4", np.repeat(frames[..., None], 3, axis=-1), 8)
    place = Workspace(home / "scheduled")
    curate = CurateConfig(num_workers=0)
    remember(Recipe(name="scheduled", source=source, films=None, captioner=None, curate=curate), place)
    return place


@pytest.fixture
def environment(prefect_api, place):
    return {**os.environ, **quiet_environment(), "PREFECT_API_URL": prefect_api.url, "SKYLOOM_FOLDER": str(place.root)}


@pytest.fixture
def deployed(environment, tmp_path):
    """The file's own nightly deployment, every minute and of the short flow; the worker's pool."""
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly = next(one for one in described["deployments"] if one["name"] == "nightly")
    nightly |= {"entrypoint": "flows.curate:curate", "schedules": [{"interval": 60}]}
    described["deployments"] = [nightly]
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(described))
    create = ["work-pool", "create", "skyloom", "--type", "process", "--overwrite"]
    for words in (create, ["--no-prompt", "deploy", "--all", "--prefect-file", str(path)]):
        done = subprocess.run([*PREFECT, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def worker(environment, deployed, tmp_path):
    words = ["worker", "start", "--pool", "skyloom", "--type", "process"]
    process = launch([*PREFECT, *words], tmp_path / "worker.log", environment=environment, dies_with_parent=True)
    yield process
    end(process)


def test_a_schedule_of_one_minute_fires_on_a_started_worker(worker, prefect_api, place, tmp_path):
    done = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    deadline = time.monotonic() + 300
    while not (runs := prefect_api.find("flow_runs", flow_runs=done)) and time.monotonic() < deadline:
        time.sleep(2)
    assert [run["state_name"] for run in runs][:1] == ["Completed"], (tmp_path / "worker.log").read_text()[-3000:]
    assert runs[0]["auto_scheduled"]
    assert runs[0]["name"] == "curate scheduled"
    assert prefect_api.task_states("curate scheduled") == dict.fromkeys(("curate", "caption", "shard"), "Completed")
    assert list(place.shards.glob("video-*.tar"))
