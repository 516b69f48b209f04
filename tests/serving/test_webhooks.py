"""Webhooks: signed so that the SDK believes them, tried until they arrive, never sent to the inside of a network."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from openai import InvalidWebhookSignatureError, OpenAI

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.events import delivery
from serving.store.jobs import JobTable
from serving.store.tables import WebhookEndpoint
from serving.store.webhooks import MOST_ENDPOINTS, WebhookTable
from serving.trust import courier as courier_module
from serving.trust.courier import PAUSES_S, Courier
from serving.trust.outgoing import ForbiddenAddressError, check_url, post, resolve
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


class Receiver(ThreadingHTTPServer):
    """An endpoint of somebody's: keeps what it gets, answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("location", f"http://{self.server.host}/elsewhere")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time() + 60  # a minute ahead: whatever a test does now is due

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(config: ServeConfig, receiver: Receiver) -> ServeConfig:
    # the application's own courier sleeps: tests deliver by hand
    return config.model_copy(update={"webhook_hosts": (receiver.host,), "webhook_poll_s": 3600.0})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def courier(config: ServeConfig, clock: Clock) -> Courier:
    return Courier(config, Database(config.database_url), clock=clock)


def endpoint_of(client: TestClient, receiver: Receiver, *kinds: str) -> dict:
    body = {"name": "mine", "url": f"http://{receiver.host}/hook", "event_types": kinds or ["video.completed"]}
    reply = client.post("/v1/webhook_endpoints", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def believed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether the SDK takes the delivery for ours."""
    try:
        OpenAI(api_key="x").webhooks.verify_signature(body.decode(), headers, secret=secret, tolerance=10**9)
    except InvalidWebhookSignatureError:
        return False
    return True


def test_a_finished_video_is_told_once_and_signed(
    client: TestClient, worker: Worker, receiver: Receiver, courier: Courier
) -> None:
    endpoint = endpoint_of(client, receiver)
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert not courier.run_one()
    assert worker.run_one()
    assert courier.run_one()
    assert not courier.run_one()
    ((headers, body),) = receiver.got
    event = OpenAI(api_key="x").webhooks.unwrap(body.decode(), headers, secret=endpoint["signing_secret"])
    assert (event.type, event.data.id) == ("video.completed", video["id"])
    assert not believed(endpoint["signing_secret"], headers, body + b" ")


def test_what_does_not_arrive_is_tried_again_for_a_day(
    client: TestClient, worker: Worker, receiver: Receiver, courier: Courier, clock: Clock
) -> None:
    endpoint_of(client, receiver)
    client.post("/v1/videos", json=A_VIDEO)
    worker.run_one()
    receiver.status = 500
    for tried, pause_s in enumerate(PAUSES_S, 1):
        assert courier.run_one()
        assert len(receiver.got) == tried
        assert not courier.run_one()
        clock.now_s += pause_s + 0.1
    assert 20 * 3600 < sum(PAUSES_S) < 28 * 3600
    assert courier.run_one()
    clock.now_s += 10**6
    assert not courier.run_one()  # given up
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_a_courier_that_died_with_a_delivery_loses_nothing(
    client: TestClient, worker: Worker, receiver: Receiver, courier: Courier, clock: Clock
) -> None:
    endpoint_of(client, receiver)
    client.post("/v1/videos", json=A_VIDEO)
    worker.run_one()
    assert courier._claim() is not None  # and it is never heard of again
    assert not courier.run_one()
    clock.now_s += 61
    assert courier.run_one()
    assert len(receiver.got) == 1


def test_an_old_secret_signs_for_a_day_when_asked_to(
    client: TestClient, receiver: Receiver, worker: Worker, courier: Courier, clock: Clock
) -> None:
    endpoint = endpoint_of(client, receiver)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    rotated = client.post(f"{path}/rotate_secret", json={"keep_old_secret_active_for_24_hours": True}).json()
    assert rotated["signing_secret"] != endpoint["signing_secret"]
    client.post("/v1/videos", json=A_VIDEO)
    worker.run_one()
    assert courier.run_one()
    headers, body = receiver.got[-1]
    assert believed(endpoint["signing_secret"], headers, body)
    assert believed(rotated["signing_secret"], headers, body)
    last = client.post(f"{path}/rotate_secret").json()
    client.post(f"{path}/test", json={"event_type": "video.failed"})
    headers, body = receiver.got[-1]
    assert believed(last["signing_secret"], headers, body)
    assert not believed(rotated["signing_secret"], headers, body)


def test_the_sdk_manages_endpoints(client: TestClient, receiver: Receiver, courier: Courier) -> None:
    made = endpoint_of(client, receiver, "video.completed", "video.failed")
    path = f"/v1/webhook_endpoints/{made['id']}"
    assert made["signing_secret"].startswith("whsec_")
    kept = client.get(path).json()
    assert kept["signing_secret"] is None
    assert client.post(path, json={"name": "other"}).json()["name"] == "other"
    tested = client.post(f"{path}/test", json={"event_type": "video.failed"}).json()
    assert (tested["status_code"], tested["object"]) == (200, "webhook_endpoint.test")
    page = client.get("/v1/webhook_endpoints").json()
    assert ([card["id"] for card in page["data"]], page["has_more"]) == ([made["id"]], False)
    assert client.get("/v1/webhook_event_types").json()["data"] == ["video.completed", "video.failed"]
    assert client.delete(path).json()["deleted"]
    assert client.get(path).status_code == 404


def test_a_change_writes_nothing_else_and_brings_nothing_back(
    client: TestClient, receiver: Receiver, config: ServeConfig
) -> None:
    table = WebhookTable(Database(config.database_url))
    made = endpoint_of(client, receiver)
    read = table.get(made["id"], "")
    assert read
    rotated = table.rotate(read, keep_old=False)
    changed = table.update(read, name="other")
    assert rotated
    assert changed
    assert (changed.name, changed.secret) == ("other", rotated.secret), "what was read before the rotation is old"
    table.delete(read)
    assert table.update(read, name="third") is None
    assert table.rotate(read, keep_old=True) is None
    assert client.get(f"/v1/webhook_endpoints/{made['id']}").status_code == 404


def test_one_owner_has_only_so_many_endpoints(client: TestClient, receiver: Receiver, config: ServeConfig) -> None:
    table = WebhookTable(Database(config.database_url))
    for number in range(MOST_ENDPOINTS):
        table.create("", name=f"{number}", url="https://a.org/", event_types=[])
    body = {"name": "mine", "url": f"http://{receiver.host}/hook", "event_types": ["video.completed"]}
    reply = client.post("/v1/webhook_endpoints", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many")
    table.create("other", name="theirs", url="https://a.org/", event_types=[])


def test_a_reply_that_drips_is_waited_for_no_longer_than_any() -> None:
    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            for letter in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000:
                connection.sendall(bytes([letter]))
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=lambda: drip(server.accept()[0]), daemon=True).start()
        with pytest.raises(httpx.ReadTimeout, match="no reply within"):  # each byte comes in time
            post(f"http://{host}/", b"{}", {}, allowed=(host,), timeout_s=0.5)


def test_an_owner_whose_endpoint_is_slow_delays_nobody_else(
    jobs: JobTable, receiver: Receiver, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = jobs.database
    table = WebhookTable(database)
    for owner in ("slow", "slow", "quick"):
        endpoint = table.create(owner, name="n", url=f"http://{receiver.host}/", event_types=["video.completed"])
        with database.write() as session:
            session.add(delivery(endpoint, "video.completed", "video_1", time.time()))
    told: list[str] = []
    goes_on, real = threading.Event(), courier_module.send

    def send(endpoint: WebhookEndpoint, *rest: Any) -> int:
        if endpoint.owner == "slow":
            assert goes_on.wait(20)
        told.append(endpoint.owner)
        return real(endpoint, *rest)

    monkeypatch.setattr(courier_module, "send", send)
    waiting = threading.Thread(target=courier.run_one)
    waiting.start()
    while not courier._busy:
        time.sleep(0.01)
    assert courier.run_one()
    assert told == ["quick"]
    assert not courier.run_one(), "the slow one's other delivery waits for the first"
    goes_on.set()
    waiting.join()
    assert courier.run_one()
    assert told == ["quick", "slow", "slow"]


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status = 302
    assert post(f"http://{receiver.host}/", b"{}", {}, allowed=(receiver.host,), timeout_s=5) == 302
    assert len(receiver.got) == 1


def test_a_name_is_resolved_once_and_the_checked_address_is_called(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], socket.getaddrinfo

    def lookup(host: str, port: int, *args: object, **kwargs: object) -> object:
        asked.append(host)
        return real("127.0.0.1" if host == "rebind.test" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    name = f"rebind.test:{receiver.server_port}"
    assert post(f"http://{name}/", b"{}", {}, allowed=(name,), timeout_s=5) == 200
    assert asked.count("rebind.test") == 1
    assert receiver.got[0][0]["host"] == name


def test_by_default_no_address_is_called(tmp_path, worker: Worker) -> None:
    closed = ServeConfig.at(tmp_path / "other", tracking_uri="unused")
    with TestClient(create_app(closed), base_url="http://127.0.0.1") as client:
        body = {"name": "n", "url": "https://example.org/", "event_types": ["video.completed"]}
        reply = client.post("/v1/webhook_endpoints", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "url")


INSIDE = """
    127.0.0.1 127.1 127.0.1 0x7f.1 0x7f000001 2130706433 0177.0.0.1 017700000001 0.0.0.0 0 localhost LOCALHOST
    localhost.
    [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::]
    [fe80::1] [fc00::1] [fd00::1] 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0xa9fea9fe 2852039166
    224.0.0.1 255.255.255.255 [ff02::1] 198.18.0.1 192.0.2.1
"""
MALFORMED = [
    "http://example.org/", "https://example.org:8443/", "ftp://example.org/", "file:///etc/passwd", "gopher://x:70/_x",
    "https://user@example.org/", "https://user:pass@example.org/", "https://", "//example.org", "example.org",
    "javascript:alert(1)", "data:,x", "https://exa mple.org/", "https:///path", "unix:/run/x.sock", "\x00https://a.org",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE.split())
def test_the_inside_of_a_network_is_never_called(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        resolve(check_url(f"https://{host}/", ("*",)), ("*",))


@pytest.mark.parametrize("url", MALFORMED)
def test_only_plain_https_is_called(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        check_url(url, ("*",))
