"""The whole server under Ray Serve, asked by the unmodified OpenAI SDK; one start for all tests."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest
import ray
from openai import OpenAI

from data.video import read_frames
from flows.services import free_port
from model.errors import CapacityError, RegistryError
from serving.app import Server, start, stop
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


A_KEY = "sk-skyloom-of-the-tests"


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Returns once the condition holds; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store.register("skyloom")
    folder = tmp_path_factory.mktemp("server")
    config = ServeConfig.at(folder, tracking_uri=store.uri, port=free_port(), alias_poll_s=0.2, lease_s=4)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    running = start(config)
    yield running
    stop(running)
    ray.shutdown()


@pytest.fixture(scope="module")
def client(server: Server) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=A_KEY)


def test_create_poll_download_list_delete(client: OpenAI, tmp_path: Path) -> None:
    video = client.videos.create_and_poll(
        prompt="a red ball", seconds="1", size="48x32", extra_body={"seed": 3, "num_inference_steps": 2}
    )
    assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "1", "48x32")
    content = client.videos.download_content(video.id)
    content.write_to_file(tmp_path / "got.mp4")
    assert read_frames(tmp_path / "got.mp4").shape == (8, 32, 48, 3)
    assert client.videos.download_content(video.id, variant="thumbnail").read()[8:12] == b"WEBP"
    assert client.videos.download_content(video.id, variant="spritesheet").read()[:3] == b"\xff\xd8\xff"
    others = [client.videos.create(prompt=f"ball {i}", seconds="0.5", size="16x16").id for i in range(3)]
    assert [found.id for found in client.videos.list(limit=2)] == [*reversed(others), video.id]
    for video_id in [video.id, *others]:
        assert client.videos.delete(video_id).deleted
    assert list(client.videos.list()) == []


def test_no_process_of_the_server_listens_beyond_loopback(server: Server) -> None:
    listening = {
        (process.name(), found.laddr.ip.removeprefix("::ffff:"), found.laddr.port)
        for process in psutil.Process().children(recursive=True)
        for found in process.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    }
    assert server.config.port in {port for _, _, port in listening}
    assert {ip for _, ip, _ in listening} == {"127.0.0.1"}, listening


def test_errors_reach_the_sdk_whole(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as impossible:
        client.videos.create(prompt="p", seconds="1.1")
    assert (impossible.value.code, impossible.value.param) == ("invalid_value", "seconds")
    assert "use '1' or '1.5'" in str(impossible.value)
    assert impossible.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_unknown")
    with pytest.raises(openai.NotFoundError):
        client.videos.remix("video_unknown", prompt="p")


def test_no_log_of_the_server_holds_the_key(client: OpenAI) -> None:
    client.models.list()
    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    wait_until(lambda: any(b"GET /v1/models" in path.read_bytes() for path in folder.rglob("*.log")), 20)
    assert [path for path in folder.rglob("*") if path.is_file() and A_KEY.encode() in path.read_bytes()] == []


def test_a_moved_alias_is_served_without_a_restart(client: OpenAI, store) -> None:
    before = client.videos.create_and_poll(prompt="p", seconds="0.5", size="16x16")
    store.register("skyloom", seed=1)
    wait_until(lambda: client.models.retrieve("skyloom").facts["version"] == "2", 20)
    after = client.videos.create_and_poll(prompt="p", seconds="0.5", size="16x16")
    assert (before.model_version, after.model_version) == ("1", "2")
    assert before.weights_digest != after.weights_digest
    assert [card.id for card in client.models.list()] == ["skyloom", "skyloom@1", "skyloom@2"]
    older = client.videos.create_and_poll(model="skyloom@1", prompt="p", seconds="0.5", size="16x16")
    assert (older.model, older.weights_digest) == ("skyloom@1", before.weights_digest)


def test_a_taken_port_and_an_empty_registry_are_told_before_anything_starts(server: Server) -> None:
    with pytest.raises(CapacityError, match="choose another port"):
        start(server.config)
    with pytest.raises(RegistryError, match="register"):
        start(server.config.model_copy(update={"model_name": "nothing", "port": free_port()}))


@pytest.mark.integration
def test_a_job_outlives_the_replica_that_was_killed_in_the_middle(packets, server: Server, client: OpenAI) -> None:
    jobs = JobTable(Database(server.config.database_url))
    options = {"seed": 5, "num_inference_steps": 200}
    calm = client.videos.create_and_poll(prompt="p", seconds="2", size="64x64", extra_body=options)
    video = client.videos.create(prompt="p", seconds="2", size="64x64", extra_body=options)
    wait_until(lambda: client.videos.retrieve(video.id).progress > 5, 30)
    row = jobs.get(video.id)
    assert row is not None
    assert row.worker is not None
    os.kill(int(row.worker.split(":")[1]), signal.SIGKILL)
    wait_until(lambda: client.videos.retrieve(video.id).status == "completed", 120)
    row = jobs.get(video.id)
    assert row is not None
    assert row.attempts == 2
    streams = [packets(client.videos.download_content(found.id).read()) for found in (calm, video)]
    assert streams[0] == streams[1]
    assert len(streams[0]) > 16
