"""One job at a time through the worker: progress, cancelling, zombies, failures, and a moving alias."""

import errno
import threading
import time

import pytest

from model.errors import ConfigError
from serving.config import ServeConfig
from serving.database import Database
from serving.engine import LoadedModel
from serving.jobs import JobTable, NewJob
from serving.tables import Job
from serving.worker import Worker

SETTINGS = {"seed": 1, "num_inference_steps": 4, "guidance_scale": 2.0, "negative_prompt": "", "fps": 8.0}
A_JOB = NewJob(model="skyloom", prompt="a ball", seconds="2", size="64x64", settings=SETTINGS)


def queue(jobs: JobTable, **changes: str) -> str:
    """The id of a new job."""
    return jobs.create(NewJob(**{**vars(A_JOB), **changes}))[0].id


def found(jobs: JobTable, job_id: str) -> Job:
    """The job, which must be there."""
    job = jobs.get(job_id)
    assert job is not None
    return job


def test_jobs_run_in_order_of_arrival(worker: Worker, jobs: JobTable, painter) -> None:
    for prompt in ("one", "two", "three"):
        queue(jobs, prompt=prompt)
    while worker.run_one():
        pass
    assert painter.prompts == ["one", "two", "three"]


def test_progress_is_seen_while_it_runs(worker: Worker, jobs: JobTable, painter, monkeypatch) -> None:
    monkeypatch.setattr("serving.worker._PROGRESS_EVERY_S", 0.0)
    job_id, seen = queue(jobs), []
    painter.on_step = lambda step: seen.append((found(jobs, job_id).status, found(jobs, job_id).progress))
    worker.run_one()
    assert seen == [("in_progress", 0), ("in_progress", 22), ("in_progress", 45), ("in_progress", 67)]
    assert found(jobs, job_id).progress == 100


def test_a_deleted_job_stops_and_leaves_nothing(worker: Worker, jobs: JobTable, painter, config, monkeypatch) -> None:
    monkeypatch.setattr("serving.worker._PROGRESS_EVERY_S", 0.0)
    job_id, steps = queue(jobs), []
    painter.on_step = lambda step: (steps.append(step), step == 2 and jobs.delete(job_id))
    assert worker.run_one()
    assert steps == [1, 2]
    assert not list(config.storage.rglob("*.mp4"))


def test_a_worker_that_slept_through_its_lease_leaves_no_result(
    worker: Worker, jobs: JobTable, painter, config: ServeConfig, monkeypatch
) -> None:
    monkeypatch.setattr("serving.worker._PROGRESS_EVERY_S", 1e9)
    job_id = queue(jobs)
    other = []

    def steal(step: int) -> None:
        if step == 4:
            impatient = JobTable(Database(config.database_url), clock=lambda: time.time() + 1000)
            other.append(impatient.claim("other", lease_s=10_000))

    painter.on_step = steal
    worker.run_one()
    assert found(jobs, job_id).status == "in_progress"
    assert not list(config.storage.rglob("*.mp4"))
    assert jobs.complete(other[0], {"files": {}})


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("too many tokens"), "generation_failed", "too many tokens"),
        (OSError(errno.ENOSPC, "full"), "insufficient_storage", "no space left"),
        (RuntimeError("secret path /root"), "server_error", "inside the server"),
    ],
)
def test_a_failure_ends_the_job_and_not_the_worker(
    worker: Worker, jobs: JobTable, painter, error: Exception, code: str, message: str
) -> None:
    def fail(step: int) -> None:
        raise error

    painter.on_step = fail
    job_id = queue(jobs)
    assert worker.run_one()
    job = found(jobs, job_id)
    assert (job.status, job.error_code) == ("failed", code)
    assert message in (job.error_message or "")
    assert "secret" not in (job.error_message or "")
    painter.on_step = lambda step: None
    second = queue(jobs)
    worker.run_one()
    assert found(jobs, second).status == "completed"


def test_a_request_that_the_new_model_cannot_make_fails_with_the_reason(worker: Worker, jobs: JobTable) -> None:
    job_id = queue(jobs, size="70x64")
    worker.run_one()
    assert "use '64x64'" in (found(jobs, job_id).error_message or "")


def test_the_alias_is_followed_between_jobs(worker: Worker, jobs: JobTable, shelf) -> None:
    shelf.version = "2"
    time.sleep(0.02)
    worker.follow_alias()
    job_id = queue(jobs)
    worker.run_one()
    served = jobs.served("skyloom")
    assert served is not None
    assert served.version == "2"
    assert (found(jobs, job_id).result or {})["model_version"] == "2"


def test_a_broken_new_version_leaves_the_old_one_serving(worker: Worker, jobs: JobTable, shelf) -> None:
    shelf.version = None
    time.sleep(0.02)
    worker.follow_alias()
    job_id = queue(jobs)
    worker.run_one()
    assert (found(jobs, job_id).result or {})["model_version"] == "1"


def test_stopping_hands_the_job_back_and_another_finishes_it(
    config: ServeConfig, jobs: JobTable, painter, shelf, facts
) -> None:
    def worker_named(name: str) -> Worker:
        def load(model, folder):
            return LoadedModel(painter, facts)

        return Worker(config, name=name, jobs=jobs, registry=shelf, load=load)

    halfway, job_id = threading.Event(), queue(jobs)
    painter.on_step = lambda step: (halfway.set(), time.sleep(0.05))
    first = worker_named("first")
    first.start()
    assert first.is_alive
    assert halfway.wait(5)
    first.stop()
    job = found(jobs, job_id)
    assert (job.status, job.attempts) == ("in_progress", 0)
    second = worker_named("second")
    second.start()
    deadline = time.monotonic() + 10
    while found(jobs, job_id).status != "completed" and time.monotonic() < deadline:
        time.sleep(0.02)
    second.stop()
    job = found(jobs, job_id)
    assert (job.status, job.worker, job.attempts) == ("completed", "second", 1)


def test_what_a_lost_attempt_left_goes_when_another_completes(
    worker: Worker, jobs: JobTable, config: ServeConfig
) -> None:
    job_id = queue(jobs)
    hasty = JobTable(Database(config.database_url), clock=lambda: time.time() - 1000)
    assert hasty.claim("killed", lease_s=1) is not None
    leftover = config.storage / job_id / "1"
    leftover.mkdir(parents=True)
    worker.run_one()
    assert [folder.name for folder in (config.storage / job_id).iterdir()] == ["2"]
