"""A server that a service manager ends: it is gone in time, and what it had begun waits for the next (R10).

`make chaos`.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from data.workspace import Workspace
from flows.services import free_port
from model.tiny import save_tiny_pipeline
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from training.registry import register_starter

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

A_LONG_ONE = {"prompt": "a red ball", "seconds": "4", "size": "256x256", "num_inference_steps": 200}
DRAINED_S = 30
SKYLOOM = (sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())")


class Running(NamedTuple):
    """`skyloom serve` as a process, its API and its jobs."""

    process: subprocess.Popen[bytes]
    api: httpx.Client
    jobs: JobTable


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    place, port = Workspace(tmp_path / "run"), free_port(8000)
    save_tiny_pipeline(tmp_path / "tiny")
    register_starter("skyloom", tmp_path / "tiny", place)
    words = ["serve", "--workspace", str(place.root), "--port", str(port), "--frame_check", "off"]
    jobs = JobTable(Database(ServeConfig.of_run(place.root, tracking_uri=place.tracking_uri).database_url))
    with subprocess.Popen([*SKYLOOM, *words], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert any(b"Serving" in line for line in process.stdout)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", trust_env=False, timeout=30) as api:
                yield Running(process, api, jobs)
        finally:
            process.kill()


def test_work_under_way_is_handed_back_within_half_a_minute(server: Running) -> None:
    replies = [server.api.post("/videos", json=A_LONG_ONE) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 200], replies[0].text
    begun, waiting = (reply.json()["id"] for reply in replies)
    deadline = time.monotonic() + 60
    while server.api.get(f"/videos/{begun}").json()["progress"] < 1:
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.1)
    below = psutil.Process(server.process.pid).children(recursive=True)
    server.process.terminate()
    assert server.process.wait(DRAINED_S) == 130, "as after Ctrl-C"
    _, alive = psutil.wait_procs(below, timeout=5)
    assert alive == [], "nothing of it stays"
    for video_id in (begun, waiting):
        lease = server.jobs.claim("the next server", lease_s=30)
        assert lease is not None
        assert (lease.job.id, lease.job.attempts) == (video_id, 1), "at once, and the attempt did not count"
