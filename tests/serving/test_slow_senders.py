"""Senders that hang, or never end: heads that never end, bodies that come a byte at a time, too many of either (S8)."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from serving import bounded_http
from serving.api import bodies
from serving.api.app import create_app
from serving.api.bodies import (
    MOST_IN_HAND,
    MOST_WAITED_FOR,
    Body,
    BodyLimits,
    BodyTooSlowError,
    TooManyBodiesError,
)
from serving.bounded_http import MAX_HEAD_BYTES, BoundedHttp
from serving.config import ServeConfig
from serving.worker import Worker

SOON_S = 0.3
A_HEAD = b"POST /v1/videos HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
A_BODY = b'{"prompt": "p"}'


@pytest.fixture
def proxied(served) -> Callable[[Any], AbstractContextManager[int]]:
    """Serves an application, and speaks HTTP as Serve's proxy does."""
    return partial(served, http=BoundedHttp, lifespan="off")


@pytest.fixture
def port(config: ServeConfig, worker: Worker, monkeypatch: pytest.MonkeyPatch, proxied) -> Iterator[int]:
    """The port of a server of ours that waits for nobody longer than `SOON_S`."""
    monkeypatch.setattr(bounded_http, "HEAD_TIMEOUT_S", SOON_S)
    with proxied(create_app(config.model_copy(update={"body_timeout_s": SOON_S, "max_body_bytes": 100_000}))) as port:
        yield port


def said_to(port: int, first: bytes, *, drip: bytes = b"") -> bytes:
    """All that a sender hears until the server hangs up; after its first words it sends a drip now and then."""
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(first)
        return heard_by(sender, drip)


def heard_by(sender: socket.socket, drip: bytes) -> bytes:
    """All that comes until the server hangs up."""
    heard = b""
    sender.settimeout(SOON_S / 10)
    with suppress(ConnectionError):
        while True:
            try:
                piece = sender.recv(65_536)
            except TimeoutError:
                sender.sendall(drip)
                continue
            if not piece:
                break
            heard += piece
    return heard


def flood(port: int, first: bytes, num_bytes: int) -> None:
    """Sends until the server hangs up, or so many bytes are out."""
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(first)
        for _ in range(num_bytes // 4096):
            sender.sendall(b"x" * 4096)


@pytest.mark.timeout(60)  # a server that waits for ever would never hang up
@pytest.mark.parametrize("drip", [b"", b"x"])
@pytest.mark.parametrize("size", [b"content-length: 1000\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n3e8\r\n{"])
def test_a_body_that_does_not_come_is_answered_and_cut(port: int, size: bytes, drip: bytes) -> None:
    head, _, body = said_to(port, A_HEAD + size, drip=drip).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head
    assert b'"code": "request_timeout"' in body


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("first", "drip"), [(b"", b""), (b"POST /", b"x"), (A_HEAD, b""), (A_HEAD + b"x-more: ", b"x")]
)
def test_a_head_that_does_not_end_is_cut(port: int, first: bytes, drip: bytes) -> None:
    assert said_to(port, first, drip=drip) == b""


@pytest.mark.timeout(60)
def test_the_next_head_of_a_connection_must_end_too(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(2):
        connection.request("GET", "/v1/videos")
        assert connection.getresponse().read()
    connection.sock.sendall(b"GET /")
    assert heard_by(connection.sock, b"x") == b""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", [b"/v1/videos", b"/nowhere"])
def test_who_goes_on_sending_after_the_answer_is_cut(port: int, path: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000\r\n\r\n" % path
    heard = said_to(port, head, drip=b"x" * 10)
    assert heard.startswith(b"HTTP/1.1 4")
    assert heard.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("begin", [b"x-long: ", b"transfer-encoding: chunked\r\n\r\n0\r\nx-trailer: "])
def test_a_head_or_trailer_without_end_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(bounded_http, "HEAD_TIMEOUT_S", 3600)
    with pytest.raises(ConnectionError):
        flood(port, A_HEAD + begin, 200 * MAX_HEAD_BYTES)


def test_a_large_body_is_no_large_head(port: int) -> None:
    body = A_BODY[:-1] + b" " * (MAX_HEAD_BYTES + 10_000) + b"}"
    close = b"connection: close\r\n"
    for framed in (
        b"content-length: %d\r\n\r\n%s" % (len(body), body),
        b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    ):
        assert said_to(port, A_HEAD + close + framed).startswith(b"HTTP/1.1 200 OK")


def test_a_body_is_read_no_faster_than_its_pace(monkeypatch: pytest.MonkeyPatch, proxied) -> None:
    """Serve's proxy takes what comes at once, as this application does, and would hold all of it."""
    monkeypatch.setattr(bounded_http, "BODY_BYTES_PER_S", 100_000)
    taken = []

    async def swallow(_scope: Any, receive: Any, _send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            taken.append(len(message["body"]))

    with proxied(swallow) as port, socket.create_connection(("127.0.0.1", port)) as sender:
        sender.settimeout(1)
        sender.sendall(A_HEAD + b"transfer-encoding: chunked\r\n\r\n4000000\r\n")
        with pytest.raises(TimeoutError):
            sender.sendall(b"x" * 0x4000000)
        assert 0 < sum(taken) < 2**20
        monkeypatch.undo()  # it has to read all that is on its way before it sees that the sender has gone


def test_serve_s_proxy_would_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.config.HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    assert bounded_http.install() == []
    config = uvicorn.Config(FastAPI())
    config.load()
    assert config.http_protocol_class is BoundedHttp


@pytest.mark.timeout(60)
def test_when_too_many_bodies_hang_the_oldest_must_go(config: ServeConfig, worker: Worker) -> None:
    app, too_many = create_app(config.model_copy(update={"body_timeout_s": 3600.0})), 10
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "headers": headers}

    async def hang() -> tuple[list[int], list[int]]:
        comes, begun, statuses = asyncio.Event(), dict[int, None](), [0] * (MOST_WAITED_FOR + too_many)

        async def ask(number: int) -> None:
            async def receive() -> dict[str, Any]:
                begun.setdefault(number)
                await comes.wait()
                return {"type": "http.request", "body": A_BODY, "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                statuses[number] = message.get("status", statuses[number])

            await app(dict(scope), receive, send)

        asking = [asyncio.create_task(ask(number)) for number in range(len(statuses))]
        while len(begun) < len(statuses) or statuses.count(0) > MOST_WAITED_FOR:
            await asyncio.sleep(0.01)
        comes.set()
        await asyncio.gather(*asking)
        return list(begun), statuses

    begun, statuses = asyncio.run(hang())
    assert [statuses[number] for number in begun] == [408] * too_many + [200] * MOST_WAITED_FOR


@pytest.mark.timeout(60)
def test_only_so_much_of_bodies_is_held_at_once(
    config: ServeConfig, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole bodies too: those that wait for something else are in memory."""
    app, large = create_app(config.model_copy(update={"max_body_bytes": 1000})), 900
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "headers": headers}
    body = A_BODY + b" " * (large - len(A_BODY))
    num_held = MOST_IN_HAND * 1000 // large

    async def hold() -> tuple[list[int], list[int]]:
        goes_on, statuses = asyncio.Event(), list[int]()

        async def ask() -> None:
            pieces = iter([(body[:-1], True), (body[-1:], False)])

            async def receive() -> dict[str, Any]:
                piece, more = next(pieces)
                if not more:
                    await goes_on.wait()
                return {"type": "http.request", "body": piece, "more_body": more}

            async def send(message: dict[str, Any]) -> None:
                statuses.extend([message["status"]] if "status" in message else [])

            await app(dict(scope), receive, send)

        asking = [asyncio.create_task(ask()) for _ in range(num_held + 3)]
        while len(statuses) < 3:
            await asyncio.sleep(0.01)
        refused = list(statuses)
        goes_on.set()
        await asyncio.gather(*asking)
        await ask()
        return refused, statuses[3:]

    monkeypatch.setattr(bodies, "SMALL_BYTES", 100)
    refused, served = asyncio.run(hold())
    assert refused == [503] * 3
    assert served == [200] * (num_held + 1)


def test_small_bodies_pass_and_large_ones_that_wait_make_room() -> None:
    async def begin() -> None:
        limits = BodyLimits(max_bytes=1_000_000, timeout_s=60)

        async def nothing() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        def body(num_bytes: int, *, waits: bool) -> Body:
            made = Body(nothing, limits)
            made.num_bytes = num_bytes
            limits.take(made, num_bytes)
            if waits:
                limits.begin_waiting(made)
            return made

        whole = [body(1_000_000, waits=False) for _ in range(MOST_IN_HAND - 1)]
        slow = body(900_000, waits=True)
        body(1000, waits=False)
        with pytest.raises(TooManyBodiesError):
            body(1_000_000, waits=False)
        newcomer = body(200_000, waits=False)
        with pytest.raises(BodyTooSlowError):
            await slow.receive()
        for each in (*whole, slow, newcomer):
            each.end()

    asyncio.run(begin())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("reads", "is_whole"), [(0, False), (2**20, True)])
def test_who_reads_nothing_of_a_reply_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, proxied, reads: int, is_whole: bool
) -> None:
    """The reply is more than the kernel takes off the server's hands; who reads on, however slowly, gets all of it."""
    monkeypatch.setattr(bounded_http, "READ_TIMEOUT_S", SOON_S)
    length, gone = 2**26, threading.Event()

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        sizes = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": sizes})
        for _ in range(length // 2**16):
            await send({"type": "http.response.body", "body": b"x" * 2**16, "more_body": True})
        await send({"type": "http.response.body"})
        gone.set()

    with proxied(answer) as port, socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        heard, began = 0, time.monotonic()
        while reads and heard < length and time.monotonic() - began < 20:
            heard += len(reader.recv(reads))
            time.sleep(SOON_S / 100)
        assert gone.wait(10)
        if not reads:
            heard = len(heard_by(reader, b""))
        assert (heard >= length) == is_whole
