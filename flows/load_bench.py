"""What the server bears: many clients at once."""

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import psutil

from data.cluster import ensure_ray
from data.workspace import Workspace
from flows.bench import Measurement
from flows.services import free_port
from model.tiny import save_tiny_pipeline
from serving.app import Server, start, stop
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.tables import Job
from training.registry import register_starter

NUM_POLLERS, NUM_CREATORS, LOAD_S = 200, 50, 300.0
A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "64x64"}
A_LONGER_ONE = {"prompt": "a red ball", "seconds": "4", "size": "256x256", "num_inference_steps": 20}
NUM_LONGER, LONGER_S = 30, 60.0
FINISHED = ("completed", "failed")


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
    with TemporaryDirectory(prefix="skyloom-bench-") as name:
        folder = Path(name)
        save_tiny_pipeline(folder / "tiny")
        with running_server(folder / "run", folder / "tiny") as server:
            yield server


class Sighting(NamedTuple):
    """A state that a poller was told, and when it had read the reply."""

    status: str
    read_s: float


class Crowd:
    """Creators and pollers at one server; what was acknowledged, and every answer that cannot be right.

    Each has a connection of its own, as clients have; a pool that many threads share may also close one that was just
    given out (github.com/encode/httpcore/issues/1110).
    """

    def __init__(self, url: str, *, num_creators: int = NUM_CREATORS, lasts_s: float = LOAD_S) -> None:
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.num_polls = 0
        self._url, self._num_creators = url, num_creators
        self._until = time.monotonic() + lasts_s
        self._seen: dict[str, Sighting] = {}

    def run(self) -> None:
        """Returns when the time is up and every client has its last answer."""
        with ThreadPoolExecutor(NUM_POLLERS + self._num_creators) as pool:
            clients = [(self._create, 2.0)] * self._num_creators + [(self._look, 0.5)] * NUM_POLLERS
            for done in [pool.submit(self._live, *each, number) for number, each in enumerate(clients)]:
                done.result()

    def _live(self, ask: Callable[[httpx.Client, int], None], every_s: float, number: int) -> None:
        """One client, that asks again so long after each answer."""
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while time.monotonic() < self._until:
                try:
                    ask(client, number)
                except httpx.TransportError as error:
                    self.wrong.append(f"no answer: {error!r}")
                time.sleep(every_s)

    def _create(self, client: httpx.Client, number: int) -> None:
        reply = client.post("/videos", json=A_VIDEO | {"seed": number, "num_inference_steps": 2})
        if reply.status_code == 200:
            self.ids.append(reply.json()["id"])
        else:
            self.wrong.append(f"create {reply.status_code}: {reply.text[:100]}")

    def _look(self, client: httpx.Client, number: int) -> None:
        """At one of the newest videos: its state may only move forward."""
        if not self.ids:
            return
        video_id = self.ids[-1 - number % min(len(self.ids), 100)]
        asked_s = time.monotonic()
        reply = client.get(f"/videos/{video_id}")
        self.num_polls += 1
        if reply.status_code != 200:
            self.wrong.append(f"poll {reply.status_code}: {reply.text[:100]}")
            return
        now, before = Sighting(reply.json()["status"], time.monotonic()), self._seen.get(video_id)
        # of two replies to two pollers the earlier may be read later
        if before and before.status in FINISHED and now.status != before.status and asked_s > before.read_s:
            self.wrong.append(f"{video_id} went from {before.status} to {now.status}")
        if before is None or before.status not in FINISHED:
            self._seen[video_id] = now


def load() -> dict[str, Measurement]:
    """Five minutes of many clients: nothing lost, nothing wrong, memory flat."""
    with tiny_server() as server:
        crowd, sizes = Crowd(server.base_url), []
        watch = threading.Thread(target=lambda: sizes.extend(memory_over(LOAD_S)))
        watch.start()
        crowd.run()
        watch.join()
        jobs = JobTable(Database(server.config.database_url))
        wait_until_done(jobs)
        found = [jobs.get(video_id) for video_id in crowd.ids]
    lost = sum(job is None or job.status != "completed" for job in found)
    what = f"{NUM_POLLERS} pollers, {NUM_CREATORS} creators, {LOAD_S:.0f} s: {len(found)} jobs, {crowd.num_polls} polls"
    growth = statistics.mean(sizes[-3:]) / statistics.mean(sizes[2:5])
    return {
        "lost": Measurement(what=f"{what}: lost or failed", ours=lost, unit="jobs", goal="none", holds=not lost),
        "wrong": Measurement(
            what=f"{what}: wrong answers", ours=len(crowd.wrong), unit="", goal="none", holds=not crowd.wrong,
            details={"first": crowd.wrong[0]} if crowd.wrong else {},
        ),
        "memory": Measurement(
            what="memory of all its processes at the end over that after a minute", ours=round(growth, 3), unit="x",
            goal="at most 1.05", holds=growth <= 1.05,
        ),
        "short": busy_row(
            [job for job in found if job and job.result], f"{len(found)} videos of 64x64x8, 2 steps", goal=None
        ),
    }  # fmt: skip


def busy() -> dict[str, Measurement]:
    """How much of the time with waiting jobs the model computes, where a video takes it seconds."""
    with tiny_server() as server:
        jobs = longer_videos(server, JobTable(Database(server.config.database_url)))
    which = f"{NUM_LONGER} videos of 256x256x32, 20 steps"
    return {"": busy_row([job for job in jobs if job and job.result], which, goal=0.95)}


def longer_videos(server: Server, jobs: JobTable) -> list[Job | None]:
    """A queue of videos that take the model seconds each, made while all pollers look at them."""
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as client:
        ids = [client.post("/videos", json=A_LONGER_ONE | {"seed": n}).json()["id"] for n in range(NUM_LONGER)]
    crowd = Crowd(server.base_url, num_creators=0, lasts_s=LONGER_S)
    crowd.ids = ids
    crowd.run()
    wait_until_done(jobs)
    return [jobs.get(video_id) for video_id in ids]


def busy_row(jobs: Sequence[Job], which: str, *, goal: float | None) -> Measurement:
    """How much of the time with waiting jobs the model computes."""
    share = busy_share(jobs)
    return Measurement(
        what=f"share of the time with waiting jobs in which the tiny model computes, under the pollers; {which}",
        ours=round(100 * share, 1), unit="%",
        goal=f"at least {100 * goal:.0f} %" if goal else "none: signing such a one takes longer than making it",
        holds=share >= (goal or 0),
    )  # fmt: skip


def memory_over(seconds: float, every_s: float = 15.0) -> list[int]:
    """The resident memory of this process and its children, now and then."""
    sizes = []
    for _ in range(int(seconds / every_s)):
        time.sleep(every_s)
        own = psutil.Process()
        sizes.append(sum(_resident(each) for each in own.children(recursive=True)))
    return sizes


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


def model_s(job: Job) -> tuple[float, float]:
    """How long the model sampled and decoded for a finished job; the same to the last bit for all of a batch."""
    seconds = (job.result or {})["seconds"]
    return seconds["sample"], seconds["decode"]


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of what lies in any of these intervals."""
    length, end = 0.0, -math.inf
    for begin, until in sorted(intervals):
        length += max(0.0, until - max(begin, end))
        end = max(end, until)
    return length


def wait_until_done(jobs: JobTable, timeout_s: float = 600.0) -> None:
    """Returns when no job waits."""
    deadline = time.monotonic() + timeout_s
    while jobs.num_waiting() and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(2)
