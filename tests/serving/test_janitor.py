"""Clearing away: what has expired or belongs to nothing goes, what is in use or young stays."""

import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.janitor import UNSERVED_S, YOUNG_S, Janitor, Swept
from serving.store.jobs import JobTable, NewJob
from serving.store.served import ServedTable
from serving.store.tables import ModelVersion
from serving.ticker import Ticker
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def janitor(config: ServeConfig, clock: Clock) -> Janitor:
    return Janitor(config, Database(config.database_url), clock=clock)


def make(client: TestClient, worker: Worker) -> str:
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert worker.run_one()
    return video["id"]


def test_a_video_goes_when_it_has_expired_and_says_when_that_is(
    client: TestClient, worker: Worker, janitor: Janitor, clock: Clock, config: ServeConfig
) -> None:
    video_id = make(client, worker)
    expires = client.get(f"/v1/videos/{video_id}").json()["expires_at"]
    clock.now_s = expires - 5
    janitor.sweep()
    assert client.get(f"/v1/videos/{video_id}/content").status_code == 200
    clock.now_s = expires + 5
    assert janitor.sweep().videos == 1
    assert client.get(f"/v1/videos/{video_id}").status_code == 404
    assert not (config.storage / video_id).exists()


def test_a_job_that_waits_never_expires(client: TestClient, worker: Worker, janitor: Janitor, clock: Clock) -> None:
    video_id = client.post("/v1/videos", json=A_VIDEO).json()["id"]
    clock.now_s += 10**9
    assert janitor.sweep().videos == 0
    assert client.get(f"/v1/videos/{video_id}").json()["status"] == "queued"


def test_what_belongs_to_nothing_goes_when_it_is_old(
    client: TestClient, worker: Worker, janitor: Janitor, clock: Clock, config: ServeConfig
) -> None:
    video_id = make(client, worker)
    orphan, draft = config.storage / "video_gone" / "1", config.storage / video_id / ".2.draft"
    unused = config.uploads / "unused.npy"
    for folder in (orphan, draft, config.uploads):
        folder.mkdir(parents=True)
    unused.write_bytes(b"x")
    assert janitor.sweep() == Swept()
    clock.now_s += YOUNG_S + 5
    assert janitor.sweep() == Swept(folders=2, uploads=1)
    assert not orphan.parent.exists()
    assert not draft.exists()
    assert not unused.exists()
    assert config.identity.is_dir()
    assert client.get(f"/v1/videos/{video_id}/content").status_code == 200


def test_the_draft_under_way_stays_however_old_it_looks(
    client: TestClient, worker: Worker, jobs: JobTable, janitor: Janitor, clock: Clock, config: ServeConfig
) -> None:
    video_id = client.post("/v1/videos", json=A_VIDEO).json()["id"]
    lease = jobs.claim("slow", lease_s=10**6)
    assert lease
    mine, earlier = (config.storage / video_id / f".{fence}.draft" for fence in (lease.fence, lease.fence - 1))
    mine.mkdir(parents=True)
    earlier.mkdir()
    clock.now_s += 10 * YOUNG_S
    assert janitor.sweep() == Swept(folders=1)
    assert mine.is_dir()
    assert not earlier.exists()
    assert jobs.fail(lease, code="c", message="m")
    assert janitor.sweep() == Swept(folders=1)
    assert not mine.exists()


def test_an_upload_stays_as_long_as_a_job_or_character_uses_it(
    config: ServeConfig, clock: Clock, janitor: Janitor, worker: Worker, client: TestClient
) -> None:
    video_id = make(client, worker)
    character = client.post("/v1/videos/characters", json={"name": "n", "video": {"id": video_id}})
    assert character.status_code == 200, character.text
    (upload,) = config.uploads.glob("*.npy")
    old = time.time() - 10 * YOUNG_S
    os.utime(upload, (old, old))
    assert janitor.sweep().uploads == 0
    assert upload.is_file()


def test_a_ticker_outlives_what_it_calls() -> None:
    calls = []

    def work() -> bool:
        calls.append(len(calls))
        if len(calls) == 1:
            raise OSError("disk full")
        return len(calls) < 4

    ticker = Ticker(work, every_s=0.01)
    ticker.start()
    deadline = time.monotonic() + 5
    while len(calls) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    ticker.stop()
    assert len(calls) >= 5


def test_a_folder_that_is_not_there_holds_nothing(janitor: Janitor, tmp_path: Path) -> None:
    assert list(janitor._old(tmp_path / "nowhere")) == []


def test_a_job_whose_model_is_served_nowhere_ends_failed_and_one_that_may_come_back_waits(
    janitor: Janitor, jobs: JobTable, clock: Clock, config: ServeConfig
) -> None:
    served = ServedTable(jobs.database, clock=clock)
    names = ("skyloom", "skyloom@7", "elsewhere", "elsewhere@1", "gone", "gone@1", "skyloomy@1")
    waiting = {
        name: jobs.create(NewJob(model=name, prompt="p", seconds="1", size="48x32", settings={}))[0].id
        for name in names
    }
    served.publish("elsewhere", version="1", facts={})
    served.publish("gone", version="1", facts={})
    for name in ("elsewhere", "gone"):
        served.publish_versions(name, [ModelVersion(id=f"{name}@1", name=name, aliases=[], created_s=0.0, facts={})])
    clock.now_s += UNSERVED_S / 2
    assert janitor.sweep() == Swept()
    clock.now_s += UNSERVED_S
    served.mark_seen("elsewhere")
    assert janitor.sweep().orphans == 3
    found = {name: jobs.get(waiting[name]) for name in names}
    assert {name: job.status for name, job in found.items() if job} == {
        "skyloom": "queued", "skyloom@7": "queued", "elsewhere": "queued", "elsewhere@1": "queued",
        "gone": "failed", "gone@1": "failed", "skyloomy@1": "failed",
    }  # fmt: skip
    assert found["gone"] is not None
    assert found["gone"].error_code == "model_not_found"
    assert janitor.sweep() == Swept()
