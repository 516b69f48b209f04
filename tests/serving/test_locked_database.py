"""A database that another process holds for too long: a clear reply that says so, and no job fails for it."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

import serving.store.database
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.trouble import is_out_of_reach, passes, unless_in_trouble
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


@pytest.fixture
def config(config: ServeConfig, monkeypatch: pytest.MonkeyPatch) -> ServeConfig:
    """On SQLite, whose readers and writers do not wait long here."""
    monkeypatch.setattr(serving.store.database, "LONGEST_WAIT_S", 0.05)
    url = f"sqlite:///{config.storage.parent / 'jobs.db'}"
    return config.model_copy(update={"lease_s": 0.2, "database_url": url})


@contextmanager
def held(config: ServeConfig) -> Iterator[None]:
    """Another process is in the middle of a transaction, as one that was stopped there would be."""
    other = sqlite3.connect(config.database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_a_request_is_told_to_come_again(config: ServeConfig, worker: Worker) -> None:
    with TestClient(create_app(config), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        with held(config):
            refused = client.post("/v1/videos", json=A_VIDEO)
            assert client.get("/v1/videos").json()["data"] == []  # reading goes on
        assert refused.status_code == 503
        assert "try again" in refused.json()["error"]["message"]
        assert client.post("/v1/videos", json=A_VIDEO).status_code == 200


def test_a_job_is_made_again_when_its_result_could_not_be_written(
    client: TestClient, worker: Worker, jobs: JobTable, config: ServeConfig, painter
) -> None:
    job_id = client.post("/v1/videos", json=A_VIDEO).json()["id"]
    holding = held(config)
    painter.on_step = lambda step: step == 2 and holding.__enter__()
    assert not unless_in_trouble(worker.run_one)
    painter.on_step = lambda step: None
    holding.__exit__(None, None, None)
    job = jobs.get(job_id)
    assert job is not None
    assert job.status == "in_progress"
    assert wait_for(worker.run_one)
    made = jobs.get(job_id)
    assert made is not None
    assert (made.status, made.attempts) == ("completed", 2)
    assert [path.name for path in (config.storage / job_id).iterdir()] == [str(made.fence)]


def test_a_job_outlives_that_its_progress_cannot_be_written_for_a_while(
    client: TestClient, hire, jobs: JobTable, config: ServeConfig, painter, caplog
) -> None:
    job_id = client.post("/v1/videos", json=A_VIDEO).json()["id"]
    holding = held(config)

    def hold(step: int) -> None:
        if step == 2:
            holding.__enter__()
        if step == 3:
            assert wait_for(lambda: "cannot be written" in caplog.text)
            holding.__exit__(None, None, None)

    painter.on_step = hold
    hire(config.model_copy(update={"lease_s": 20.0}), jobs).start()
    assert wait_for(lambda: jobs.get(job_id).status == "completed")
    assert jobs.get(job_id).attempts == 1


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it holds within some seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_server_that_is_away_is_out_of_reach() -> None:
    with pytest.raises(OperationalError) as away:
        Database("postgresql+psycopg://skyloom@127.0.0.1:1/none")
    assert is_out_of_reach(away.value)
    assert passes(away.value)


def test_a_mistake_of_ours_is_not_out_of_reach(jobs: JobTable) -> None:
    with pytest.raises(OperationalError) as ours, jobs.database.connect() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")
    assert not passes(ours.value)
