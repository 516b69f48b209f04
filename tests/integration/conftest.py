"""Real services for the tests of the whole: a Prefect server of their own, found as `skyloom up` would leave it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from flows.home import services_folder
from flows.services import (
    end,
    free_port,
    launch,
    prefect_environment,
    prefect_server_command,
    quiet_environment,
    wait_until_ready,
)
from flows.state import Service, write_services

SKYLOOM = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]


class PrefectApi:
    """What the tests ask of the server."""

    def __init__(self, url):
        self.url = url

    def find(self, kind, **query):
        """The objects of one kind (flow_runs, task_runs), newest first."""
        reply = httpx.post(f"{self.url}/{kind}/filter", json=query, trust_env=False)
        reply.raise_for_status()
        return reply.json()

    def task_states(self, flow_run_name):
        """State name by task name, of the newest run with this name."""
        wanted = {"name": {"any_": [flow_run_name]}}
        run = self.find("flow_runs", flow_runs=wanted, sort="START_TIME_DESC", limit=1)[0]
        tasks = self.find("task_runs", task_runs={"flow_run_id": {"any_": [run["id"]]}})
        return {task["name"]: task["state_name"] for task in tasks}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of artifacts for one module; every command that the tests start uses it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("SKYLOOM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def prefect_api(home):
    """A Prefect server on a free port with its own database, written down as running."""
    port = free_port()
    environment = {**quiet_environment(), **prefect_environment(port)}
    log = services_folder() / "prefect.log"
    process = launch(prefect_server_command(port), log, environment=environment, dies_with_parent=True)
    try:
        url = environment["PREFECT_API_URL"]
        wait_until_ready(f"{url}/health", process, log)
        created_at = psutil.Process(process.pid).create_time()
        write_services([Service(name="prefect", pid=process.pid, created_at=created_at, url=url, log=str(log))])
        yield PrefectApi(url)
    finally:
        end(process)


@pytest.fixture
def skyloom(home):
    """Runs the command as a user would; gives the finished process, with what it printed."""

    def run(*words, timeout_s=540):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return subprocess.run(
            [*SKYLOOM, *map(str, words)],
            env=environment | {"SKYLOOM_HOME": str(home), "COLUMNS": "160"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def read_json():
    """A JSON file as Python values."""
    return lambda path: json.loads(Path(path).read_text())
