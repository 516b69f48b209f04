"""What the server makes of its model: batches against one by one, and the API's tax on the bare sampler."""

import math
import statistics
import time
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import numpy as np
import torch

from data.prompts import expander
from flows.bench import Measurement
from flows.load_bench import running_server
from model.config import digest_of
from model.errors import StageError
from model.pipeline import SkyloomPipeline
from model.runner import finish
from model.shapes import VideoShape
from model.tiny import save_tiny_pipeline
from model.weights import STARTER
from serving.app import Server
from serving.config import ServeConfig
from serving.loader import load_model
from serving.registry import RegisteredModel
from serving.store.database import Database
from serving.store.jobs import JobTable, NewJob
from serving.store.tables import Job
from serving.worker import Worker

NUM_BATCHED, NUM_TAXED, NUM_ROUNDS = 32, 4, 30
LOOK_EVERY_S = 1.0  # seldom: looking takes the interpreter from the worker
PROMPT, SMALL = "a red ball", VideoShape(8, 64, 64)


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
    """Seconds a video of a queue takes the whole server, asked over HTTP, against the bare sampler.

    Both in turn, in many rounds: the machine's pace changes by more than what is looked for.
    """
    torch.set_num_threads(1)
    pipeline = SkyloomPipeline.from_pretrained(STARTER)
    shape = VideoShape.parse(pipeline.facts.trained_buckets[0])
    prompt = expander(pipeline.facts.prompt_expander)(PROMPT)
    served_s: list[list[float]] = []
    outside_s = 0.0
    # one video at a time, as the bare sampler; an idle replica that looks for work seldom leaves the core to that
    settings = {"frame_check": "nsfw", "max_batch": 1, "poll_interval_s": 0.5}
    with TemporaryDirectory(prefix="skyloom-bench-") as name, running_server(Path(name), STARTER, **settings) as server:
        served(server, shape, 1)  # the first of all waits for the classifier to be read
        bare_s = [sampled_s(pipeline, prompt, shape)]
        for _ in range(NUM_ROUNDS):
            jobs = sorted(served(server, shape, NUM_TAXED + 1), key=lambda job: job.started_s or 0.0)
            took = [(after.started_s or 0.0) - (before.started_s or 0.0) for before, after in pairwise(jobs)]
            outside_s += sum(took) - sum(map(in_model_s, jobs[:-1]))
            served_s.append(took)
            bare_s.append(sampled_s(pipeline, prompt, shape))
    ratio, low, high = ratio_of_rounds(served_s, bare_s)
    mine, theirs = (statistics.median(chain(*rounds)) for rounds in (served_s, bare_s))
    share = outside_s / sum(chain(*served_s))
    what = (
        f"a video of {shape.bucket} by the starter, asked over HTTP, checked, signed and written; medians of "
        f"{NUM_ROUNDS} rounds of {NUM_TAXED} between as many bare ones, whose mean ratio is {ratio:.3f} "
        f"({low:.3f} to {high:.3f}, 95 %)"
    )
    return {
        "": Measurement(
            what=what, ours=round(mine, 3), unit="s", peer=round(theirs, 3), peer_name="the bare sampler",
            goal="mean ratio at most 1.03", holds=ratio <= 1.03,
        ),
        "outside": Measurement(
            what=f"share of the time of {NUM_ROUNDS * NUM_TAXED} such videos that the replica spends outside the model",
            ours=round(100 * share, 2), unit="%", goal="at most 3 %", holds=share <= 0.03,
        ),
    }  # fmt: skip


def served(server: Server, shape: VideoShape, number: int) -> list[Job]:
    """So many videos of a server, asked for at once."""
    fields = {"prompt": PROMPT, "seconds": f"{shape.num_frames / 8:g}", "size": f"{shape.width}x{shape.height}"}
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as client:
        replies = [client.post("/videos", json=fields | {"seed": seed}).raise_for_status() for seed in range(number)]
    return wait_for(JobTable(Database(server.config.database_url)), [reply.json()["id"] for reply in replies])


def sampled_s(pipeline: SkyloomPipeline, prompt: str, shape: VideoShape) -> list[float]:
    """How long the bare sampler takes for each of a round's videos."""
    times = [time.perf_counter()]
    for seed in range(NUM_TAXED):
        finish(pipeline.generate([prompt], shape, seeds=[seed]))
        times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


def ratio_of_rounds(ours: Sequence[Sequence[float]], peers: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The mean ratio of our rounds to the peer's, of which one comes before each of ours and one after the last.

    Geometric, of medians, each to the peer's before and after it: so a pace that changes evenly changes no ratio. With
    its 95 % interval, by bootstrap over the rounds.
    """
    mine, theirs = ([math.log(statistics.median(times)) for times in rounds] for rounds in (ours, peers))
    between = [(before + after) / 2 for before, after in pairwise(theirs)]
    rounds = [own - peer for own, peer in zip(mine, between, strict=True)]
    drawn = np.random.default_rng(0).choice(rounds, (10_000, len(rounds))).mean(1)
    low, high = np.exp(np.quantile(drawn, (0.025, 0.975)))
    return math.exp(statistics.mean(rounds)), float(low), float(high)


def in_model_s(job: Job) -> float:
    """How long the model took for a finished job."""
    seconds = (job.result or {})["seconds"]
    return seconds["sample"] + seconds["decode"]


def worker_rate(folder: Path, weights: Path, max_batch: int, number: int) -> float:
    """Videos a second that a worker makes of a queue of so many, from the first begun to the last completed."""
    done = worked(folder, weights, max_batch, number)
    return number / (max(job.completed_s or 0.0 for job in done) - min(job.started_s or 0.0 for job in done))


def worked(folder: Path, weights: Path, max_batch: int, number: int) -> list[Job]:
    """A queue of so many small videos, made by a worker."""
    config = ServeConfig.at(folder / "serve", tracking_uri="unused", max_batch=max_batch, frame_check="off")
    config.storage.mkdir(parents=True, exist_ok=True)
    jobs = JobTable(Database(config.database_url))
    worker = Worker(config, name="bench", jobs=jobs, registry=OneFolder(weights), load=load_model)
    ids = [jobs.create(job_of(SMALL, seed))[0].id for seed in range(number)]
    worker.start()
    done = wait_for(jobs, ids)
    worker.stop()
    return done


def wait_for(jobs: JobTable, ids: Sequence[str]) -> list[Job]:
    """The jobs, once all of them have ended.

    Raises:
        StageError: one of them failed, which no rate may count.
    """
    while jobs.num_pending():
        time.sleep(LOOK_EVERY_S)
    found = [job for job in map(jobs.get, ids) if job is not None]
    failed = [job for job in found if job.status == "failed"]
    if failed:
        raise StageError(f"a video of the benchmark failed: {failed[0].error_message}; see the log")
    return found


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
