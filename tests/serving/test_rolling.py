"""Aliases that move and replicas that are replaced under steady traffic: no request fails (R10). `make chaos`."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
import ray
from ray import serve

from serving.app import APPLICATION, Server, build, start, stop
from serving.config import ServeConfig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
A_VIDEO = {"prompt": "a red ball", "seconds": "0.5", "size": "16x16", "num_inference_steps": 1}
NAME = "rolling"
NUM_THREADS = 64


class Traffic:
    """Ten requests a second while it is entered, none of them repeated: what fails is remembered."""

    def __init__(self, url: str, *, per_second: float = 10, timeout_s: float = 60) -> None:
        self.ids: list[str] = []
        self.failures: list[str] = []
        self.num_asked = 0
        self._every_s = 1 / per_second
        # one for each thread: a pool that threads share may close what it just gave out (encode/httpcore, issue 1110)
        self._idle = [httpx.Client(base_url=url, timeout=timeout_s, trust_env=False) for _ in range(NUM_THREADS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._idle:
            client.close()

    def _run(self) -> None:
        """A request at each beat, in a thread of its own: a slow one must not slow the others."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            asked: list[Future[None]] = []
            for number in itertools.count():
                if self._stop.wait(self._every_s):
                    break
                asked.append(pool.submit(self._ask, number))
            for each in asked:
                each.result()

    def _ask(self, number: int) -> None:
        began, client = time.monotonic(), self._idle.pop()
        kind = ("create", "retrieve", "list", "models")[number % 4]
        try:
            reply = self._send(client, kind)
            if reply.status_code >= 400:
                self.failures.append(f"{kind}: {reply.status_code} {reply.text[:200]}")
            elif kind == "create":
                self.ids.append(reply.json()["id"])
        except httpx.TransportError as error:
            self.failures.append(f"{kind}: {error!r} after {time.monotonic() - began:.1f} s")
        self._idle.append(client)
        self.num_asked += 1

    def _send(self, client: httpx.Client, kind: str) -> httpx.Response:
        if kind == "create":
            return client.post("/videos", json=A_VIDEO)
        if kind == "retrieve" and self.ids:
            return client.get(f"/videos/{self.ids[-1]}")
        return client.get("/models" if kind == "models" else "/videos")


def until(condition: Callable[[], Any], timeout_s: float) -> None:
    """Returns once the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store.register(NAME)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("rolling")
    changes = {"alias_poll_s": 0.2, "lease_s": 4, "model_name": NAME, "max_queued_jobs": 100_000}
    config = ServeConfig.at(folder, tracking_uri=store.uri, port=port, **changes)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    running = start(config)
    yield running
    stop(running)
    ray.shutdown()


def test_no_request_fails_while_the_alias_moves(server: Server, store) -> None:
    """Five moves of the alias under 10 requests a second."""
    with Traffic(server.base_url) as traffic:
        for seed in range(1, 6):
            version = store.register(NAME, seed=seed)
            until(lambda version=version: served_version(server) == version, 30)
            time.sleep(2)
    check_all_served(traffic, server)


def test_no_request_fails_while_the_server_is_deployed_anew(server: Server) -> None:
    """20 redeployments of every replica under 10 requests a second."""
    with Traffic(server.base_url) as traffic:
        for number in range(20):
            changed = server.config.model_copy(update={"sweep_every_s": 61.0 + number})
            serve.run(build(changed), name=APPLICATION, route_prefix="/")
            time.sleep(1)
    check_all_served(traffic, server)


def served_version(server: Server) -> str:
    """The version that the API names."""
    return httpx.get(f"{server.base_url}/models/{NAME}", trust_env=False).json()["facts"]["version"]


def check_all_served(traffic: Traffic, server: Server) -> None:
    """No request failed, and each video that was asked for is there in the end."""
    assert traffic.failures == []
    assert traffic.num_asked > 50

    def status(video_id: str) -> str:
        return httpx.get(f"{server.base_url}/videos/{video_id}", trust_env=False).json()["status"]

    for video_id in traffic.ids:
        until(lambda video_id=video_id: status(video_id) == "completed", 120)
