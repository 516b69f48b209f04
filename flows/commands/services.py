"""`skyloom up` and `skyloom down`: every service of one machine, on loopback."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import Field
from rich.console import Console
from rich.table import Table

from data.workspace import Workspace
from flows.commands.flags import Flags, read_flags
from flows.home import home, services_folder, workspace
from flows.receipts import read_receipt
from flows.services import (
    HOST,
    end,
    free_port,
    launch,
    prefect_environment,
    prefect_server_command,
    ray_environment,
    wait_until_ready,
)
from flows.state import Service, process_of, read_services, write_services
from model.errors import CapacityError, StageError

log = logging.getLogger(__name__)

POOL = "skyloom"
DEPLOYMENTS = Path(__file__).resolve().parents[2] / "prefect.yaml"


class UpFlags(Flags):
    """Starts Prefect, a worker with the deployments of prefect.yaml, MLflow, Ray and Serve on loopback."""

    workspace: Path | None = Field(default=None, description="the run they work on; artifacts/demo when not given")
    prefect_port: int = Field(default=4200, ge=0, le=65535, description="another free port is taken when it is in use")
    mlflow_port: int = Field(default=5000, ge=0, le=65535, description="likewise")
    ray_port: int = Field(default=6379, ge=0, le=65535, description="likewise")
    dashboard_port: int = Field(default=8265, ge=0, le=65535, description="of Ray; likewise")
    serve_port: int = Field(default=8000, ge=0, le=65535, description="of the Videos API; likewise")


class DownFlags(Flags):
    """Ends the processes that `skyloom up` started, and no others."""


@dataclass(frozen=True)
class Plan:
    """How one service is started: `ready` is the address that answers when it is up."""

    name: str
    command: list[str]
    url: str | None = None
    ready: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0


def up(name: str, arguments: list[str]) -> None:
    """Starts what does not run yet and prints where it is."""
    flags = read_flags(UpFlags, name, arguments)
    place = workspace(flags.workspace, "demo")
    running = read_services()
    if running:
        _show(running, "Already running; `skyloom down` ends it")
        return
    place.mlflow.mkdir(parents=True, exist_ok=True)
    started: list[Service] = []
    try:
        for plan in _plans(flags, place):
            started.append(_start(plan))
            write_services(started)
            if plan.name == "prefect":
                _deploy(plan.environment)
    except BaseException:
        _end_all(started)
        write_services([])
        raise
    _show(started, "Running; `skyloom down` ends it")
    log.info("Ray's dashboard asks for the token in %s", ray_environment()["RAY_AUTH_TOKEN_PATH"])
    if read_receipt("register", place) is None:
        log.warning("Serve was left out: no model is registered in %s yet; run `skyloom demo`", place.root)


def down(name: str, arguments: list[str]) -> None:
    """Ends the services in the reverse order of their start."""
    read_flags(DownFlags, name, arguments)
    running = read_services()
    _end_all(running)
    write_services([])
    Console().print(f"Ended {', '.join(one.name for one in running)}." if running else "Nothing was running.")


def _plans(flags: UpFlags, place: Workspace) -> Iterable[Plan]:
    prefect = prefect_environment(free_port(flags.prefect_port)) | {
        "SKYLOOM_HOME": str(home()),
        "SKYLOOM_FOLDER": str(place.root),
    }
    api = prefect["PREFECT_API_URL"]
    yield Plan(
        "prefect",
        prefect_server_command(int(prefect["PREFECT_SERVER_API_PORT"])),
        url=api,
        ready=f"{api}/health",
        environment=prefect,
    )
    yield _mlflow(free_port(flags.mlflow_port), place)
    ray_port, dashboard_port = free_port(flags.ray_port), free_port(flags.dashboard_port)
    yield _ray(ray_port, dashboard_port)
    joined = prefect | ray_environment() | {"RAY_ADDRESS": f"{HOST}:{ray_port}"}
    yield Plan(
        "worker",
        [_tool("prefect"), "worker", "start", "--pool", POOL, "--type", "process", "--name", "skyloom"],
        environment=joined,
    )
    if read_receipt("register", place) is not None:
        yield _serve(free_port(flags.serve_port), place, joined)


def _mlflow(port: int, place: Workspace) -> Plan:
    url = f"http://{HOST}:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    store = [
        "--backend-store-uri",
        place.tracking_uri,
        "--default-artifact-root",
        str(place.mlflow / "artifacts"),
    ]
    return Plan("mlflow", command + store, url=url, ready=f"{url}/health")


def _ray(port: int, dashboard_port: int) -> Plan:
    url = f"http://{HOST}:{dashboard_port}"
    command = [_tool("ray"), "start", "--head", "--block", "--disable-usage-stats"]
    network = ["--node-ip-address", HOST, "--port", str(port)]
    dashboard = ["--dashboard-host", HOST, "--dashboard-port", str(dashboard_port)]
    ready = f"{url}/api/gcs_healthz"  # the only address that asks for no token
    return Plan("ray", command + network + dashboard, url=url, ready=ready, environment=ray_environment())


def _serve(port: int, place: Workspace, environment: dict[str, str]) -> Plan:
    url = f"http://{HOST}:{port}"
    command = [_tool("skyloom"), "serve", "--workspace", str(place.root), "--port", str(port)]
    return Plan("serve", command, url=f"{url}/v1", ready=f"{url}/healthz", environment=environment, timeout_s=240.0)


def _start(plan: Plan) -> Service:
    log.info("starting %s", plan.name)
    log_file = services_folder() / f"{plan.name}.log"
    process = launch(plan.command, log_file, environment=plan.environment)
    if plan.ready:
        try:
            wait_until_ready(plan.ready, process, log_file, timeout_s=plan.timeout_s)
        except CapacityError:
            end(process)
            raise
    created_at = psutil.Process(process.pid).create_time()
    return Service(name=plan.name, pid=process.pid, created_at=created_at, url=plan.url, log=str(log_file))


def _deploy(environment: dict[str, str]) -> None:
    """Makes the work pool and the deployments of prefect.yaml known to the server."""
    if not DEPLOYMENTS.exists():
        raise CapacityError(f"{DEPLOYMENTS} is missing: run `skyloom up` from a checkout of the repository")
    log.info("deploying the flows of %s", DEPLOYMENTS.name)
    for words in (
        ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)],
    ):
        done = subprocess.run(
            [_tool("prefect"), *words],
            env={**os.environ, **environment},
            cwd=DEPLOYMENTS.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(f"`prefect {' '.join(words)}` failed: {(done.stdout + done.stderr).strip()[-600:]}")


def _end_all(services: list[Service]) -> None:
    """Ends each service first alone, so that it can end its own children in order; then whatever is left of them."""
    for service in reversed(services):
        process = process_of(service)
        if process is None:
            continue
        family = [process, *process.children(recursive=True)]
        _signal(process, "terminate")
        psutil.wait_procs([process], timeout=20)
        for member in family:
            _signal(member, "terminate")
        for survivor in psutil.wait_procs(family, timeout=5)[1]:
            _signal(survivor, "kill")


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return


def _show(services: list[Service], title: str) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("service", "address", "pid", "log"):
        table.add_column(column, overflow="fold")
    for one in services:
        table.add_row(one.name, one.url or "", str(one.pid), one.log)
    Console(highlight=False).print(table)


def _tool(name: str) -> str:
    """The tool of this environment, else the one on the path.

    Raises:
        CapacityError: there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise CapacityError(f"the tool {name!r} is not installed; run `make setup`")
    return found
