"""The whole server under Ray Serve while a thousand senders hang and others never end: memory, and answers (S8)."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import ray

from flows.services import free_port
from serving.api.bodies import MOST_WAITED_FOR
from serving.app import Server, start, stop
from serving.config import ServeConfig

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
NUM_SENDERS, EACH_S = 1000, 0.01  # arriving at once they would be a flood, which is another matter
MAX_GROWTH_BYTES = 64 * 2**20
MAX_HEALTH_S = 0.2
OURS = ("ray::ProxyActor", "ray::ServeReplica:skyloom:api")
HEAD = b"POST /v1/videos HTTP/1.1\r\nhost: 127.0.0.1\r\n"
SLOW_HEAD = HEAD + b"x-slow: "
SLOW_BODY = HEAD + b"content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{"


@pytest.fixture(scope="module")
def server(store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store.register("skyloom")
    config = ServeConfig.at(tmp_path_factory.mktemp("server"), tracking_uri=store.uri, port=free_port(), lease_s=60)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    running = start(config)
    ask_health(config, 5)  # what Serve needs at its first requests is no growth
    yield running
    stop(running)
    ray.shutdown()


def ask_health(config: ServeConfig, times: int) -> list[float]:
    """How long each of so many questions after the server's health took, in seconds."""
    took = []
    with httpx.Client(timeout=30) as client:
        for _ in range(times):
            began = time.perf_counter()
            assert client.get(f"{config.url}/healthz").status_code == 200
            took.append(time.perf_counter() - began)
    return took


def sizes() -> dict[str, int]:
    """The resident bytes of each process that a request goes through before the model's."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            name = next((ours for ours in OURS if " ".join(process.cmdline()).startswith(ours)), None)
            if name:
                found[name] = process.memory_info().rss
    return found


@contextmanager
def no_process_grows_much() -> Iterator[None]:
    """Fails when one grew beyond the limit at any moment."""
    before, largest, ends = sizes(), sizes(), threading.Event()
    assert set(before) == set(OURS)

    def watch() -> None:
        while not ends.wait(0.05):
            for name, size in sizes().items():
                largest[name] = max(size, largest[name])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ends.set()
        watcher.join()
    growth = {name: largest[name] - before[name] for name in OURS}
    assert max(growth.values()) <= MAX_GROWTH_BYTES, growth


async def hang(port: int, first: bytes) -> bytes:
    """What a sender hears that begins and then drips."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)

    async def drip() -> None:
        while True:
            await asyncio.sleep(2)
            writer.write(b"x")

    dripping = asyncio.create_task(drip())
    try:
        return await reader.read(1000)
    except ConnectionError:
        return b""
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.parametrize("first", [SLOW_HEAD, SLOW_BODY])
def test_a_thousand_slow_senders_hold_up_nobody(server: Server, first: bytes) -> None:
    async def besiege() -> tuple[list[float], list[bytes]]:
        senders = []
        for _ in range(NUM_SENDERS):
            senders.append(asyncio.create_task(hang(server.config.port, first)))
            await asyncio.sleep(EACH_S)
        most_left = NUM_SENDERS if first == SLOW_HEAD else MOST_WAITED_FOR
        while sum(not sender.done() for sender in senders) > most_left:
            await asyncio.sleep(0.1)
        took = await asyncio.to_thread(ask_health, server.config, 200)
        return took, await asyncio.gather(*senders)

    with no_process_grows_much():
        took, heard = asyncio.run(besiege())
    assert {said[:12] for said in heard} == {b"" if first == SLOW_HEAD else b"HTTP/1.1 408"}
    assert np.quantile(took, 0.99) < MAX_HEALTH_S


def pieces() -> Iterator[bytes]:
    """10 GiB."""
    return itertools.repeat(b"x" * 65_536, 10 * 2**30 // 65_536)


def parts(name: str, contents: Iterator[bytes]) -> Iterator[bytes]:
    """A form of one long field."""
    yield f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
    yield from contents
    yield b"\r\n--b--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=b"}
MANY = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(10_000))
BODIES: dict[str, tuple[dict[str, str], Callable[[], Iterator[bytes]]]] = {
    "json without end": ({"content-type": "application/json"}, pieces),
    "field without end": (FORM, lambda: parts("prompt", pieces())),
    "field of 100 MB": (FORM, lambda: parts("prompt", itertools.repeat(b"x" * 10**6, 100))),
    "10,000 parts": (FORM, lambda: iter([MANY, b"--b--\r\n"])),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_without_end_is_answered_and_takes_little_memory(server: Server, name: str) -> None:
    """No length is declared."""
    headers, body = BODIES[name]
    with no_process_grows_much(), httpx.Client(timeout=60) as client:
        reply = client.post(f"{server.config.url}/v1/videos", content=body(), headers=headers)
    assert reply.status_code == (400 if name == "10,000 parts" else 413), reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert list(Path(server.config.storage, "uploads").glob("*")) == []
