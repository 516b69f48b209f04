"""Makes servers and workers as real processes, fast: loads everything once, then forks one for each line it reads.

Lines: `api FOLDER PORT`, `worker FOLDER LEASE_S`; each is answered with the process id. test_chaos_jobs.py runs it.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import uvicorn

from model.pipeline import SkyloomPipeline
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.engine import LoadedModel
from serving.loader import load_model
from serving.registry import RegisteredModel
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.worker import Worker


class OneModel:
    """A registry of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The one model."""
        return RegisteredModel(name, "1", "", "")

    def versions(self, name: str) -> Sequence[RegisteredModel]:
        """None but the folder."""
        return ()

    def fetch(self, model: RegisteredModel, part: str = "") -> Path:
        """Its folder."""
        return self.folder / part

    def clear(self, model: RegisteredModel) -> None:
        """Nothing was copied."""


def config_of(folder: Path, lease_s: float = 20.0) -> ServeConfig:
    """The settings that the test has too."""
    return ServeConfig.at(
        folder,
        tracking_uri="unused",
        lease_s=lease_s,
        poll_interval_s=0.01,
        frame_check="off",
        max_batch=1,
        max_queued_jobs=1_000_000,  # storms without a worker fill any queue
    )


def serve_api(folder: Path, port: int) -> None:
    """Serves until it is killed."""
    uvicorn.run(create_app(config_of(folder)), port=port, log_level="critical")


def work(folder: Path, lease_s: float, model: Path) -> None:
    """Works until it is killed."""
    config = config_of(folder, lease_s)
    jobs = JobTable(Database(config.database_url), max_attempts=config.max_attempts)
    worker = Worker(config, name=f"host:{os.getpid()}", jobs=jobs, registry=OneModel(model), load=load)
    worker.start()
    while worker.is_alive:
        time.sleep(1)


def load(model: RegisteredModel, folder: Path) -> LoadedModel:
    """The real loading code."""
    return load_model(model, folder)


def main(model: Path) -> None:
    """Forks for each line of the standard input."""
    torch.set_num_threads(1)  # threads do not survive a fork
    SkyloomPipeline.from_pretrained(model)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        kind, folder, number = line.split()
        child = os.fork()
        if child == 0:
            if kind == "api":
                serve_api(Path(folder), int(number))
            else:
                work(Path(folder), float(number), model)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
