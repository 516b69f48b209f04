"""What a client sees of a job while it runs: a stream that can be left and joined again."""

import itertools
import json
import threading
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.events import EventTable
from serving.store.jobs import JobTable
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


def read_stream(client: TestClient, video_id: str, **headers: str) -> list[tuple[int, str, dict]]:
    """The events of a stream that has ended: (id, type, data)."""
    reply = client.get(f"/v1/videos/{video_id}/events", headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in reply.text.split("\n\n") if "data:" in block]
    parsed = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(int(event["id"]), event["event"], json.loads(event["data"])) for event in parsed]


@pytest.fixture
def made(client: TestClient, worker: Worker) -> str:
    """The id of a finished video."""
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert worker.run_one()
    return video["id"]


def test_a_stream_tells_a_job_from_beginning_to_end(client: TestClient, made: str) -> None:
    events = read_stream(client, made)
    kinds = [kind for _, kind, _ in events]
    assert kinds[:2] == ["video.queued", "video.in_progress"]
    assert kinds[-1] == "video.completed"
    assert set(kinds[2:-1]) <= {"video.progress"}
    ids = [sequence for sequence, _, _ in events]
    assert ids == sorted(set(ids))
    progress = [data["progress"] for _, _, data in events]
    assert progress == sorted(progress)
    assert progress[-1] == 100


def test_a_stream_goes_on_behind_the_last_event_that_the_client_had(client: TestClient, made: str) -> None:
    events = read_stream(client, made)
    for index, (sequence, _, _) in enumerate(events):
        assert read_stream(client, made, **{"last-event-id": str(sequence)}) == events[index + 1 :]


def test_a_stream_that_breaks_off_goes_on_while_the_video_is_made(
    config: ServeConfig, jobs: JobTable, worker: Worker, painter, served
) -> None:
    """Over a socket: the first client leaves in the middle, the next begins where that one was."""
    may_go_on = threading.Event()
    painter.on_step = lambda step: step < 2 or may_go_on.wait(30)
    with served(create_app(config)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        path = f"/v1/videos/{client.post('/v1/videos', json=A_VIDEO).json()['id']}/events"
        rendering = threading.Thread(target=worker.run_one)
        rendering.start()
        with client.stream("GET", path) as reply:
            seen = list(itertools.islice(ids_of(reply), 2))
        threading.Timer(0.5, may_go_on.set).start()  # the next one waits for what has not happened yet
        with client.stream("GET", path, headers={"last-event-id": str(seen[-1])}) as reply:
            seen += ids_of(reply)
        rendering.join()
        video_id = path.split("/")[3]
    assert seen == [event.sequence for event in EventTable(jobs.database).after(video_id)]


def ids_of(reply: httpx.Response) -> Iterator[int]:
    """The ids of a stream's events, as they come."""
    return (int(line.removeprefix("id: ")) for line in reply.iter_lines() if line.startswith("id: "))


def test_a_failed_job_ends_its_stream(client: TestClient, worker: Worker, painter) -> None:
    def fail(step: int) -> None:
        raise RuntimeError("broken")

    painter.on_step = fail
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert worker.run_one()
    assert read_stream(client, video["id"])[-1][1] == "video.failed"


@pytest.mark.parametrize(("last", "status"), [("x", 400), ("-1", 400), ("9" * 30, 400), ("0", 200)])
def test_a_last_event_id_is_a_number(client: TestClient, made: str, last: str, status: int) -> None:
    reply = client.get(f"/v1/videos/{made}/events", headers={"last-event-id": last})
    assert reply.status_code == status


def test_an_unknown_video_has_no_stream(client: TestClient) -> None:
    reply = client.get("/v1/videos/video_unknown/events")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
