"""What batches give: the rate of a worker with a queue of small videos, in batches of four and one by one."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from flows.bench import Measurement
from flows.bench_server import tiny_weights, wait_for
from model.config import digest_of
from model.shapes import VideoShape
from serving.config import ServeConfig
from serving.loader import load_model
from serving.registry import RegisteredModel
from serving.store.database import Database
from serving.store.jobs import JobTable, NewJob
from serving.store.tables import Job
from serving.worker import Worker

NUM_BATCHED, NUM_ROUNDS = 32, 3
SMALL = VideoShape(8, 64, 64)


class OneFolder(NamedTuple):
    """A registry of one model."""

    folder: Path

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The one model, whatever the alias."""
        del alias
        return RegisteredModel(name, "1", "", "")

    def versions(self, name: str) -> Sequence[RegisteredModel]:
        """None but the folder."""
        del name
        return ()

    def fetch(self, model: RegisteredModel, part: str = "") -> Path:
        """Its folder."""
        del model
        return self.folder / part

    def clear(self, model: RegisteredModel) -> None:
        """Nothing was copied."""


def batching() -> dict[str, Measurement]:
    """Videos a second of a tiny model's worker in batches of four and one by one, in turn."""
    rates: dict[int, list[float]] = {4: [], 1: []}
    with tiny_weights() as weights:
        for _ in range(NUM_ROUNDS):
            for size, kept in rates.items():
                kept.append(worker_rate(weights, size))
    together, alone = (statistics.median(rates[size]) for size in (4, 1))
    return {
        "batches": Measurement(
            what=f"videos of {SMALL.bucket}, 20 steps, tiny model, batches of four", ours=round(together, 2),
            unit="per s", peer=round(alone, 2), peer_name="one by one", goal="at least 1.3x",
            holds=together >= 1.3 * alone,
        )
    }  # fmt: skip


def worker_rate(weights: Path, max_batch: int) -> float:
    """Videos a second that a worker makes of a queue, from the first begun to the last completed."""
    done = worked(weights, max_batch)
    return len(done) / (max(job.completed_s or 0.0 for job in done) - min(job.started_s or 0.0 for job in done))


def worked(weights: Path, max_batch: int) -> list[Job]:
    """A queue of small videos, made by a worker."""
    with TemporaryDirectory(prefix="skyloom-bench-") as folder:
        config = ServeConfig.at(Path(folder), tracking_uri="unused", max_batch=max_batch, frame_check="off")
        jobs = JobTable(Database(config.database_url))
        worker = Worker(config, name="bench", jobs=jobs, registry=OneFolder(weights), load=load_model)
        ids = [jobs.create(job_of(seed))[0].id for seed in range(NUM_BATCHED)]
        worker.start()
        done = wait_for(jobs, ids)
        worker.stop()
    return done


def job_of(seed: int) -> NewJob:
    """A video as the API queues it."""
    settings = {"seed": seed, "num_inference_steps": 20, "guidance_scale": 3.5, "negative_prompt": "", "fps": 8.0}
    return NewJob(
        model="skyloom",
        prompt="a red ball",
        seconds=f"{SMALL.num_frames / 8:g}",
        size=f"{SMALL.width}x{SMALL.height}",
        settings=settings,
        batch_key=digest_of(list(SMALL)),
    )
