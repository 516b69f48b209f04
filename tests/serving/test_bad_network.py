"""The unmodified SDK over a network that delays, resets, cuts and falls silent: every clip arrives whole (R11)."""

import asyncio
import hashlib
import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Self

import httpx
import pytest
from openai import OpenAI

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.jobs import JobTable

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
FAULTS = {"none": 60, "slow": 10, "reset": 12, "cut": 12, "silent": 6}
"""How often a connection has each, in percent."""
SILENT_FOR_S = 1.0
LARGEST_REPLY = 8192


class Saboteur:
    """A TCP proxy that harms the replies of some connections, after a random number of bytes."""

    def __init__(self, target: int, seed: int = 11) -> None:
        self._target, self._draw = target, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (fault,) = self._draw.choices(list(FAULTS), list(FAULTS.values()))
        allowed = self._draw.randrange(0, LARGEST_REPLY, 1024)
        with suppress(ConnectionError):
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
            forth = asyncio.create_task(pass_on(reader, back_writer))
            await self._harm(fault, allowed, back_reader, writer)
            forth.cancel()
            back_writer.close()
        writer.close()

    async def _harm(self, fault: str, allowed: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        num_passed = 0
        while data := await reader.read(1024):
            if fault == "slow":
                await asyncio.sleep(0.02)
            elif fault != "none" and num_passed + len(data) > allowed:
                self.done[fault] += 1
                if fault == "silent":
                    await asyncio.sleep(3 * SILENT_FOR_S)
                elif fault == "reset":
                    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                return
            writer.write(data)
            await writer.drain()
            num_passed += len(data)
        self.done[fault if fault == "slow" else "none"] += 1


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes in goes out."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def port(config: ServeConfig, working: None, served) -> Iterator[int]:
    """The port of a real server; its worker paints."""
    with served(create_app(config)) as port:
        yield port


def fetch_clip(port: int, number: int) -> tuple[str, str]:
    """The id of a clip, and the digest of what arrived of it; the SDK asks again by itself."""
    base_url, timeout = f"http://127.0.0.1:{port}/v1", httpx.Timeout(SILENT_FOR_S, connect=5)
    with OpenAI(base_url=base_url, api_key="any", max_retries=12, timeout=timeout) as client:
        body = {"seed": number, "num_inference_steps": 1}
        made = client.videos.create(prompt=f"clip {number}", seconds="0.5", size="64x64", extra_body=body)
        while client.videos.retrieve(made.id).status != "completed":
            time.sleep(0.05)
        content = client.videos.download_content(made.id).read()
    return made.id, hashlib.sha256(content).hexdigest()


def resume_clip(port: int, video_id: str) -> str:
    """The digest of a clip that is fetched in as many pieces as the network allows, each from where the last ended."""
    content, total, etag = b"", None, ""
    while total is None or len(content) < total:
        headers = {"range": f"bytes={len(content)}-"} | ({"if-range": etag} if etag else {})
        address = f"http://127.0.0.1:{port}/v1/videos/{video_id}/content"
        with (
            suppress(httpx.TransportError),
            httpx.stream("GET", address, headers=headers, timeout=SILENT_FOR_S) as reply,
        ):
            assert reply.status_code == 206
            etag, total = reply.headers["etag"], int(reply.headers["content-range"].rpartition("/")[2])
            for piece in reply.iter_bytes(512):
                content += piece
    return hashlib.sha256(content).hexdigest()


def check_network(port: int, jobs: JobTable, num_clips: int) -> Counter[str]:
    """Every clip arrives with the digest that its job names, by the SDK and in pieces; returns the harm done."""
    with Saboteur(port) as saboteur, ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: fetch_clip(saboteur.port, number), range(num_clips)))
        pieces = list(pool.map(lambda each: resume_clip(saboteur.port, each[0]), got[: num_clips // 4]))
    found = [jobs.get(video_id) for video_id, _ in got]
    expected = [job.result["files"]["video"]["sha256"] for job in found if job is not None and job.result]
    assert [digest for _, digest in got] == expected
    assert pieces == expected[: len(pieces)]
    assert len({job.id for job in jobs.list(limit=1000).jobs}) == num_clips
    return saboteur.done


def test_clips_arrive_whole(port: int, jobs: JobTable) -> None:
    done = check_network(port, jobs, 12)
    assert sum(done.values()) > done["none"]


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_two_hundred_clips_arrive_whole(port: int, jobs: JobTable) -> None:
    done = check_network(port, jobs, 200)
    assert all(done[fault] > 5 for fault in FAULTS)
