"""What the server bears, in one run of a tiny model: creations, many clients at once, batches, and the API's tax."""

import math
import statistics
import threading
import time
from collections.abc import Sequence

import psutil

from flows.batching_bench import batching
from flows.bench import Measurement
from flows.bench_server import jobs_of, model_s, tiny_server, tiny_weights, wait_for
from flows.creation_bench import creation
from flows.crowd import Crowd
from flows.tax_bench import Taxed, tax_of
from model.shapes import VideoShape
from serving.app import Server
from serving.store.tables import Job

NUM_POLLERS, NUM_CREATORS, LOAD_S = 200, 50, 300.0
A_VIDEO = {"prompt": "a red ball", "seconds": "2", "size": "160x160", "num_inference_steps": 20}
WHICH = "160x160x16, 20 steps"
"""As large as makes the model's part of the work larger than the signing's: else the model must wait."""
SMALL, LARGE, FEW_STEPS, MANY_STEPS = VideoShape(16, 160, 160), VideoShape(16, 320, 320), 20, 200
"""The tax is of videos of several seconds; what a server does for one beside its steps is as much for a short one."""


def load() -> dict[str, Measurement]:
    """Creations first, then five minutes of many clients, on one server; then batches and the tax, nothing beside."""
    with tiny_server() as server:
        rows = creation(server)
        wait_for(jobs_of(server), [])
        rows |= crowded(server)
    rows |= batching()
    with tiny_weights() as weights:
        rows |= tax_of(Taxed("the tiny model", weights, LARGE, MANY_STEPS, num_rounds=16))
        short = tax_of(Taxed("the tiny model", weights, SMALL, FEW_STEPS, num_rounds=20))["tax"]
    no_goal = {"goal": "none: signing it takes as long as making it", "holds": True}
    return rows | {"tax-short": short.model_copy(update=no_goal)}


def crowded(server: Server) -> dict[str, Measurement]:
    """Five minutes of many clients: nothing lost, nothing wrong, memory flat, the model busy."""
    crowd = Crowd(server.base_url, A_VIDEO, num_pollers=NUM_POLLERS, num_creators=NUM_CREATORS, lasts_s=LOAD_S)
    sizes: list[int] = []
    watch = threading.Thread(target=lambda: sizes.extend(memory_over(LOAD_S)))
    watch.start()
    crowd.run()
    watch.join()
    jobs = jobs_of(server)
    wait_for(jobs, [])
    found = [jobs.get(video_id) for video_id in crowd.ids]
    done = [job for job in found if job is not None and job.status == "completed"]
    lost, growth, share = len(found) - len(done), growth_of(sizes), busy_share(done)
    who = f"{NUM_POLLERS} pollers, {NUM_CREATORS} creators, {LOAD_S:.0f} s"
    what = f"{who}: {len(found)} jobs, {crowd.num_polls} polls"
    return {
        "lost": Measurement(what=f"{what}: lost or failed", ours=lost, unit="jobs", goal="0", holds=not lost),
        "wrong": Measurement(
            what=f"{what}: wrong answers", ours=len(crowd.wrong), unit="", goal="0", holds=not crowd.wrong,
            details={"first": crowd.wrong[0]} if crowd.wrong else {},
        ),
        "memory": Measurement(
            what=f"{who}: memory of all processes at the end over that after a minute", ours=round(growth, 3),
            unit="x", goal="at most 1.05", holds=growth <= 1.05,
        ),
        "busy": Measurement(
            what=f"{who}: share of the time with waiting jobs in which the tiny model computes; videos of {WHICH}",
            ours=round(100 * share, 1), unit="%", goal="at least 95 %", holds=share >= 0.95,
        ),
    }  # fmt: skip


def memory_over(seconds: float, every_s: float = 15.0) -> list[int]:
    """The resident memory of this process and its children, now and then."""
    sizes = []
    for _ in range(int(seconds / every_s)):
        time.sleep(every_s)
        own = psutil.Process()
        sizes.append(sum(_resident(each) for each in own.children(recursive=True)))
    return sizes


def growth_of(sizes: Sequence[int]) -> float:
    """The last sizes over those from the third on, when everything was at work."""
    return statistics.mean(sizes[-3:]) / statistics.mean(sizes[2:5])


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def busy_share(jobs: Sequence[Job]) -> float:
    """The time that the model took for finished jobs, over that in which one of them waited or was in its hands."""
    batches = {model_s(job) for job in jobs}
    waited = [(job.created_s, job.started_s + sum(model_s(job))) for job in jobs if job.started_s is not None]
    return sum(map(sum, batches)) / covered(waited)


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of what lies in any of these intervals."""
    length, end = 0.0, -math.inf
    for begin, until in sorted(intervals):
        length += max(0.0, until - max(begin, end))
        end = max(end, until)
    return length
