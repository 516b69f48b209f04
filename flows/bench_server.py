"""A whole server for a benchmark: of some weights, on a free port, in a folder of its own."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from data.cluster import ensure_ray
from data.workspace import Workspace
from flows.services import free_port
from model.errors import StageError
from model.tiny import save_tiny_pipeline
from serving.app import Server, start, stop
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.tables import Job
from training.registry import register_starter

LOOK_EVERY_S = 1.0  # seldom: looking takes the core from the worker
LONGEST_S = 1800.0


@contextmanager
def running_server(folder: Path, weights: Path, **changes: object) -> Iterator[Server]:
    """A server of some weights on a free port, whose job table and files lie in a folder."""
    place = Workspace(folder)
    register_starter("skyloom", weights, place)
    settings = {"port": free_port(8000), "frame_check": "off", "max_queued_jobs": 100_000} | changes
    ensure_ray(include_dashboard=False)
    server = start(ServeConfig.of_run(folder, tracking_uri=place.tracking_uri, **settings))
    try:
        yield server
    finally:
        stop(server)


@contextmanager
def tiny_server() -> Iterator[Server]:
    """A server of a tiny random model."""
    with tiny_weights() as weights, running_server(weights.parent / "run", weights) as server:
        yield server


@contextmanager
def tiny_weights() -> Iterator[Path]:
    """A tiny random model in a folder of its own."""
    with TemporaryDirectory(prefix="skyloom-bench-") as name:
        weights = Path(name) / "tiny"
        save_tiny_pipeline(weights)
        yield weights


def jobs_of(server: Server) -> JobTable:
    """The server's own job table."""
    return JobTable(Database(server.config.database_url))


def wait_for(jobs: JobTable, ids: Sequence[str]) -> list[Job]:
    """The jobs, once all that there are have ended.

    Raises:
        StageError: one of them failed, which no rate may count; or they take too long.
    """
    deadline = time.monotonic() + LONGEST_S
    while jobs.num_pending():
        if time.monotonic() > deadline:
            raise StageError(f"{jobs.num_pending()} videos were not made in {LONGEST_S:.0f} s; see the server's log")
        time.sleep(LOOK_EVERY_S)
    found = [job for job in map(jobs.get, ids) if job is not None]
    failed = [job for job in found if job.status == "failed"]
    if failed:
        raise StageError(f"a video of the benchmark failed: {failed[0].error_message}; see the log")
    return found


def model_s(job: Job) -> tuple[float, float]:
    """How long the model sampled and decoded for a finished job; the same to the last bit for all of a batch."""
    seconds = (job.result or {})["seconds"]
    return seconds["sample"], seconds["decode"]
