"""What other machines can reach: a second network namespace stands for them and tries every TCP port (S13).

`make chaos`; needs root and Debian's iproute2.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import ray

from data.workspace import Workspace
from flows.bench_server import running_server
from flows.receipts import Receipt, write_receipt
from flows.services import free_port
from model.errors import ConfigError
from model.tiny import save_tiny_pipeline
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.keys import KeyTable
from training.registry import register_starter

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

HERE, THERE = "10.203.77.1", "10.203.77.2"
NAMESPACE, LINKS = "skyloom-outside", ("skyloom-in", "skyloom-out")
SCAN = """
import asyncio, json, sys

async def is_open(port, slots):
    async with slots:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(sys.argv[1], port), 2)
        except (OSError, asyncio.TimeoutError):
            return False
        writer.close()
        return True

async def scan():
    slots = asyncio.Semaphore(400)
    found = await asyncio.gather(*(is_open(port, slots) for port in range(1, 65536)))
    print(json.dumps([port for port, is_open in enumerate(found, 1) if is_open]))

asyncio.run(scan())
"""

Scan = Callable[[], set[int]]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def open_ports() -> Iterator[Scan]:
    """Tries every TCP port of this machine from the namespace, and gives those that answer."""
    assert shutil.which("ip"), "needs Debian's iproute2: bash infra/debian.sh iproute2"
    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1], "netns", NAMESPACE)
        ip("addr", "add", f"{HERE}/24", "dev", LINKS[0])
        ip("link", "set", LINKS[0], "up")
        ip("-n", NAMESPACE, "addr", "add", f"{THERE}/24", "dev", LINKS[1])
        ip("-n", NAMESPACE, "link", "set", LINKS[1], "up")
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", SCAN, HERE]
        yield lambda: set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    finally:
        ip("netns", "delete", NAMESPACE)


@pytest.fixture(scope="module", autouse=True)
def no_ray_is_left() -> Iterator[None]:
    """The servers of this module share the Ray of this process; the tests of others start their own."""
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "tiny"
    save_tiny_pipeline(folder)
    return folder


def test_the_scan_sees_what_listens_everywhere(open_ports: Scan) -> None:
    """The negative control."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while not _answers(port):
            assert process.poll() is None
        assert port in open_ports()
        process.kill()


def test_nothing_of_skyloom_up_answers_other_machines(open_ports: Scan, weights: Path, skyloom, home: Path) -> None:
    place = Workspace(home / "demo")
    register_starter("skyloom", weights, place)
    write_receipt(Receipt(stage="register", key="0" * 64, digest="0" * 64, seconds=0, started_at=""), place)
    before = open_ports()
    started = skyloom("up", "--workspace", place.root)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert "serve" in started.stdout
        assert open_ports() - before == set()
    finally:
        skyloom("down")


def test_nothing_of_a_server_on_loopback_answers_other_machines(
    open_ports: Scan, weights: Path, tmp_path: Path
) -> None:
    before = open_ports()
    with running_server(tmp_path / "run", weights) as server:
        assert _answers(server.config.port)
        assert open_ports() - before == set()


def test_a_server_that_is_opened_needs_a_key_and_opens_its_own_port_alone(
    open_ports: Scan, weights: Path, tmp_path: Path
) -> None:
    before, folder = open_ports(), tmp_path / "run"
    with pytest.raises(ConfigError, match="no API key yet"), running_server(folder, weights, host="0.0.0.0"):
        pass
    database = Database(ServeConfig.of_run(folder, tracking_uri="unused").database_url)
    KeyTable(database).create("operator")
    database.close()
    with running_server(folder, weights, host="0.0.0.0") as server:
        assert open_ports() - before == {server.config.port}
        assert httpx.get(f"http://{HERE}:{server.config.port}/v1/videos", trust_env=False).status_code == 401


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code < 500
    except httpx.TransportError:
        return False
