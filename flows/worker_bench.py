"""What the server's worker makes of its model: batches against one by one, and the API's tax on the bare sampler."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from flows.bench import Measurement
from model.config import digest_of
from model.pipeline import SkyloomPipeline
from model.runner import finish
from model.shapes import VideoShape
from model.tiny import save_tiny_pipeline
from model.weights import STARTER
from serving.config import ServeConfig
from serving.loader import load_model
from serving.registry import RegisteredModel
from serving.store.database import Database
from serving.store.jobs import JobTable, NewJob
from serving.worker import Worker

NUM_BATCHED, NUM_TAXED = 32, 12
PROMPT, SMALL = "a red ball", VideoShape(8, 64, 64)


class OneFolder(NamedTuple):
    """A registry of one model."""

    folder: Path

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The one model, whatever the alias."""
        del alias
        return RegisteredModel(name, "1", "", "")

    def fetch(self, model: RegisteredModel) -> Path:
        """Its folder."""
        del model
        return self.folder


def batching() -> dict[str, Measurement]:
    """Videos a second of a tiny model's worker in batches of four and one by one, in turn."""
    with TemporaryDirectory(prefix="skyloom-bench-") as name:
        folder = Path(name)
        save_tiny_pipeline(folder / "tiny")
        rates: dict[int, list[float]] = {4: [], 1: []}
        for _ in range(3):
            for size, kept in rates.items():
                kept.append(worker_rate(folder, folder / "tiny", size, NUM_BATCHED))
    together, alone = (statistics.median(rates[size]) for size in (4, 1))
    return {
        "": Measurement(
            what=f"videos of {SMALL.bucket}, tiny model, batches of four", ours=round(together, 2), unit="per s",
            peer=round(alone, 2), peer_name="one by one", goal="at least 1.3x", holds=together >= 1.3 * alone,
        )
    }  # fmt: skip


def tax() -> dict[str, Measurement]:
    """Seconds of a starter's video through the job table, checked, signed and written, against the bare sampler."""
    torch.set_num_threads(1)
    pipeline = SkyloomPipeline.from_pretrained(STARTER)
    shape = VideoShape.parse(pipeline.facts.trained_buckets[0])
    bare: list[float] = []
    served: list[float] = []
    with TemporaryDirectory(prefix="skyloom-bench-") as name:
        for number in range(NUM_TAXED):
            began = time.perf_counter()
            finish(pipeline.generate([PROMPT], shape, seeds=[number]))
            bare.append(time.perf_counter() - began)
            served.append(1 / worker_rate(Path(name), STARTER, 1, 1, shape))
    mine, theirs = statistics.median(served), statistics.median(bare)
    return {
        "": Measurement(
            what=f"a video of {shape.bucket} by the starter, through job table, checks, signature and files",
            ours=round(mine, 3), unit="s", peer=round(theirs, 3), peer_name="the bare sampler",
            goal="at most 3 % more", holds=mine <= 1.03 * theirs,
        )
    }  # fmt: skip


def worker_rate(folder: Path, weights: Path, max_batch: int, number: int, shape: VideoShape = SMALL) -> float:
    """Videos a second that a worker without Ray makes of a queue of so many."""
    config = ServeConfig.at(folder / "serve", tracking_uri="unused", max_batch=max_batch, frame_check="off")
    config.storage.mkdir(parents=True, exist_ok=True)
    jobs = JobTable(Database(config.database_url))
    worker = Worker(config, name="bench", jobs=jobs, registry=OneFolder(weights), load=load_model)
    worker.follow_aliases()
    for seed in range(number):
        jobs.create(job_of(shape, seed))
    began = time.perf_counter()
    while worker.run_one():
        pass
    return number / (time.perf_counter() - began)


def job_of(shape: VideoShape, seed: int) -> NewJob:
    """A video as the API queues it, at the model's own settings."""
    settings = {"seed": seed, "num_inference_steps": 20, "guidance_scale": 3.5, "negative_prompt": "", "fps": 8.0}
    return NewJob(
        model="skyloom",
        prompt=PROMPT,
        seconds=f"{shape.num_frames / 8:g}",
        size=f"{shape.width}x{shape.height}",
        settings=settings,
        batch_key=digest_of(list(shape)),
    )
