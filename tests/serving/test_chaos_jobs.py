"""What is promised of jobs, with real processes killed, stopped and cut off: `make chaos`."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

import httpx
import pytest
from openai import OpenAI

from flows.services import free_port
from model.tiny import save_tiny_pipeline
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.served import ServedTable
from serving.store.storage import VideoStorage

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
]
BODY = {"prompt": "a red ball", "seconds": "1", "size": "32x32", "seed": 3}
LEASE_S = 0.6


class Nursery:
    """Forks servers and workers on demand."""

    def __init__(self, model: Path) -> None:
        script = Path(__file__).with_name("nursery.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._said() == "ready"
        self.alive: set[int] = set()

    def spawn(self, kind: str, folder: Path, number: float) -> int:
        """The id of a new process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {folder} {number}\n")
        self._process.stdin.flush()
        pid = int(self._said())
        self.alive.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """Ends a process at once, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.alive.discard(pid)

    def close(self) -> None:
        """Ends all of them."""
        for pid in list(self.alive):
            self.kill(pid)
        self._process.kill()
        self._process.wait()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos") / "tiny"
    save_tiny_pipeline(folder)
    return folder


@pytest.fixture
def nursery(model: Path) -> Iterator[Nursery]:
    made = Nursery(model)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, nursery: Nursery) -> Path:
    """A server's folder in which a worker has told what it serves."""
    path = tmp_path / "serve"
    worker = nursery.spawn("worker", path, 5)
    until(lambda: (path / "jobs.db").exists() and _is_served(path), 60)
    nursery.kill(worker)
    return path


def _is_served(folder: Path) -> bool:
    return ServedTable(Database(config_of(folder).database_url)).get("skyloom") is not None


def config_of(folder: Path) -> ServeConfig:
    return ServeConfig.at(folder, tracking_uri="unused")


def table(folder: Path) -> JobTable:
    folder.mkdir(parents=True, exist_ok=True)
    return JobTable(Database(config_of(folder).database_url))


def until(condition: Callable[[], Any], timeout_s: float) -> Any:
    """What the condition returns once it holds."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


def start_api(nursery: Nursery, folder: Path) -> tuple[int, str]:
    """The process and the address of a new API."""
    port = free_port()
    pid = nursery.spawn("api", folder, port)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
        return False

    until(answers, 30)
    return pid, url


def stop_between_transactions(pid: int, folder: Path) -> None:
    """Stops a process while it does not hold SQLite's lock."""
    file = config_of(folder).database_url.removeprefix("sqlite:///")
    while True:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: is_stopped(pid), 10)
        with closing(sqlite3.connect(file, timeout=1, isolation_level=None)) as probe, suppress(OperationalError):
            probe.execute("BEGIN IMMEDIATE")
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)


def is_stopped(pid: int) -> bool:
    """Whether each thread has: one that is still inside the kernel may come out of it with the lock."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


class Storm:
    """Clients that ask for videos as fast as they can, until their server is gone."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.asked: list[str] = []
        self._client = httpx.Client(trust_env=False, timeout=30)  # to make one takes longer than many a server lives

    def rage(self, url: str, name: str) -> None:
        """One client's requests, each with an idempotency key of its own."""
        for index in range(1000):
            key = f"{name}-{index}"
            self.asked.append(key)
            reply = self.ask(url, key)
            if reply is None:
                return
            if reply.status_code == 200:
                self.acknowledged[key] = reply.json()["id"]

    def ask(self, url: str, key: str) -> httpx.Response | None:
        """The reply to a request, or None when the server is gone."""
        try:
            return self._client.post(f"{url}/v1/videos", json=BODY, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return None


def test_an_acknowledged_job_is_never_lost_though_the_api_is_killed(nursery: Nursery, folder: Path) -> None:
    """R1: kill -9 at a random moment of a storm of requests, from its first reply on, 100 times."""
    draw, storm, jobs = random.Random(1), Storm(), table(folder)
    for number in range(100):
        pid, url = start_api(nursery, folder)
        num_before = len(storm.acknowledged)
        with ThreadPoolExecutor(4) as pool:
            for client in range(4):
                pool.submit(storm.rage, url, f"{number}-{client}")
            until(lambda num_before=num_before: len(storm.acknowledged) > num_before, 30)
            time.sleep(draw.uniform(0.005, 0.25))
            nursery.kill(pid)
    assert len(storm.acknowledged) > 100
    assert all(jobs.get(job_id) is not None for job_id in storm.acknowledged.values())
    _, url = start_api(nursery, folder)
    for key in random.Random(2).sample(storm.asked, min(len(storm.asked), 200)):
        reply = storm.ask(url, key)
        assert reply is not None
        assert storm.acknowledged.get(key, reply.json()["id"]) == reply.json()["id"]


def test_a_killed_worker_loses_nothing_and_doubles_nothing(nursery: Nursery, folder: Path, packets) -> None:
    """R2: kill -9 of the worker at a random denoising step, 100 times; equal seeds end in equal pictures."""
    draw, jobs = random.Random(3), table(folder)
    storage, calm, num_interrupted = VideoStorage(config_of(folder).storage), None, 0
    _, url = start_api(nursery, folder)
    for round_number in range(101):
        job_id = httpx.post(f"{url}/v1/videos", json=BODY | {"num_inference_steps": 200}, trust_env=False).json()["id"]
        worker = nursery.spawn("worker", folder, LEASE_S)
        if round_number:
            goal = draw.randint(1, 50)
            until(lambda job_id=job_id, goal=goal: jobs.get(job_id).progress >= goal, 60)
            nursery.kill(worker)
            worker = nursery.spawn("worker", folder, LEASE_S)
        job = until(lambda job_id=job_id: _ended(jobs, job_id), 120)
        nursery.kill(worker)
        assert job.status == "completed", job.error_message
        num_interrupted += job.attempts == 2
        assert job.attempts <= 2
        found = packets(storage.path(job, "video").read_bytes())
        calm = calm or found
        assert found == calm
        assert [path.name for path in (config_of(folder).storage / job_id).iterdir()] == [str(job.fence)]
    assert num_interrupted >= 95  # the others were done before the signal came


def test_a_worker_that_slept_through_its_lease_writes_nothing(nursery: Nursery, folder: Path) -> None:
    """R4: SIGSTOP beyond the lease, takeover, SIGCONT, 50 times: the sleeper's fence is dead.

    Nobody takes over from one that sleeps inside a transaction of SQLite: test_locked_database.py is about that.
    """
    jobs = table(folder)
    _, url = start_api(nursery, folder)
    for _ in range(50):
        job_id = httpx.post(f"{url}/v1/videos", json=BODY | {"num_inference_steps": 200}, trust_env=False).json()["id"]
        sleeper = nursery.spawn("worker", folder, LEASE_S)
        until(lambda job_id=job_id: jobs.get(job_id).progress > 3, 60)
        stop_between_transactions(sleeper, folder)
        other = nursery.spawn("worker", folder, LEASE_S)
        job = until(lambda job_id=job_id: _ended(jobs, job_id), 120)
        os.kill(sleeper, signal.SIGCONT)
        time.sleep(0.3)
        after = jobs.get(job_id)
        assert after is not None
        assert (after.status, after.fence, after.result) == ("completed", job.fence, job.result)
        assert after.worker == f"host:{other}"
        nursery.kill(sleeper)
        nursery.kill(other)
        folders = [path.name for path in (config_of(folder).storage / job_id).iterdir() if path.name[0] != "."]
        assert folders == [str(job.fence)]


@pytest.mark.parametrize("has_key", [True, False])
def test_a_reply_that_is_lost_makes_no_second_job(nursery: Nursery, folder: Path, has_key: bool) -> None:
    """A2: the connection is cut after the commit, 100 times; the SDK asks again by itself."""
    _, url = start_api(nursery, folder)
    with Cutter(int(url.rpartition(":")[2])) as cutter:
        client = OpenAI(base_url=f"http://127.0.0.1:{cutter.port}/v1", api_key="any", max_retries=2)
        ids = set()
        for index in range(100):
            headers = {"Idempotency-Key": f"k{index}"} if has_key else {}
            made = client.videos.create(prompt=f"ball {index}", seconds="1", size="32x32", extra_headers=headers)
            ids.add(made.id)
        assert cutter.num_cut == 100
    page = table(folder).list(limit=1000)
    assert {job.id for job in page.jobs} == ids
    assert len(ids) == 100


class Cutter:
    """A proxy that passes a first request on, reads the whole reply, and cuts the connection instead of giving it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.num_cut = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Cutter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while (request := _message(client)) is not None:
                with socket.create_connection(("127.0.0.1", self._target)) as server:
                    server.sendall(request)
                    reply = _message(server)
                if b"x-stainless-retry-count: 0" in request.lower():
                    self.num_cut += 1
                    return
                client.sendall(reply or b"")


def _message(connection: socket.socket) -> bytes | None:
    """One HTTP message with a declared length, or None when there is no more."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _ended(jobs: JobTable, job_id: str) -> Any:
    job = jobs.get(job_id)
    return job if job is not None and job.status in ("completed", "failed") else None
