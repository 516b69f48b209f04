"""One job at a time through the worker: progress, cancelling, zombies, failures, and a moving alias."""

import errno
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

from model.errors import ConfigError, RegistryAwayError, RegistryError, StageError
from model.plan import Piece
from serving import worker as worker_module
from serving.config import ServeConfig
from serving.draft import Draft
from serving.engine import LoadedModel
from serving.store.database import Database
from serving.store.jobs import JobTable, NewJob
from serving.store.served import ServedTable
from serving.store.tables import Job
from serving.store.trouble import unless_in_trouble
from serving.worker import Worker

SETTINGS = {"seed": 1, "num_inference_steps": 4, "guidance_scale": 2.0, "negative_prompt": "", "fps": 8.0}
A_JOB = NewJob(model="skyloom", prompt="a ball", seconds="2", size="64x64", settings=SETTINGS)


def queue(jobs: JobTable, **changes: str) -> str:
    """The id of a new job."""
    return jobs.create(NewJob(**{**vars(A_JOB), **changes}))[0].id


def away(name: str, alias: str) -> None:
    """A registry that does not answer."""
    raise RegistryAwayError(f"http://10.1.2.3:5000 does not answer about {name}@{alias}")


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


def test_progress_is_seen_while_it_runs(worker: Worker, jobs: JobTable, painter) -> None:
    job_id = queue(jobs)

    def wait(step: int) -> None:
        until(lambda: found(jobs, job_id).status == "in_progress")
        until(lambda: found(jobs, job_id).progress == (0, 22, 45, 67)[step - 1])

    painter.on_step = wait
    worker.start()
    until(lambda: found(jobs, job_id).status == "completed")
    assert found(jobs, job_id).progress == 100


def test_a_deleted_job_stops_within_a_step_and_leaves_nothing(worker: Worker, jobs: JobTable, painter, config) -> None:
    job_id, steps = queue(jobs), []
    painter.on_step = lambda step: (steps.append(step), step == 2 and jobs.delete(job_id))
    assert worker.run_one()
    assert steps == [1, 2]
    assert not list(config.storage.rglob("*.mp4"))


def test_a_worker_that_slept_through_its_lease_leaves_no_result(
    worker: Worker, jobs: JobTable, painter, config: ServeConfig
) -> None:
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
    worker.follow_aliases()
    job_id = queue(jobs)
    worker.run_one()
    served = ServedTable(jobs.database).get("skyloom")
    assert served is not None
    assert served.version == "2"
    assert (found(jobs, job_id).result or {})["model_version"] == "2"


def test_a_broken_new_version_leaves_the_old_one_serving(worker: Worker, jobs: JobTable, shelf) -> None:
    shelf.version = None
    time.sleep(0.02)
    worker.follow_aliases()
    job_id = queue(jobs)
    worker.run_one()
    assert (found(jobs, job_id).result or {})["model_version"] == "1"


def test_a_version_that_cannot_be_loaded_is_not_fetched_at_every_look(worker: Worker, shelf, monkeypatch) -> None:
    def refuse(model: object, folder: object) -> None:
        raise StageError("no such weights")

    shelf.version = "2"
    monkeypatch.setattr(worker._models, "_load", refuse)
    shelf.fetched.clear()
    for _ in range(5):
        worker.follow_aliases()
    assert len(shelf.fetched) == 1
    assert worker.version == "1"


def test_a_version_is_followed_as_soon_as_a_trouble_has_passed(worker: Worker, shelf, monkeypatch) -> None:
    shelf.version = "2"
    with monkeypatch.context() as patched:
        patched.setattr(worker._models._served, "publish", lambda *args, **facts: away("", ""))
        worker.follow_aliases()
    assert worker.version == "1", "what could not be told to anybody is not served"
    worker.follow_aliases()
    assert worker.version == "2"


def test_while_the_registry_is_away_a_job_waits_and_loses_no_attempt(
    worker: Worker, jobs: JobTable, shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue(jobs)
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "REGISTRY_PAUSE_S", 1.5)
        patched.setattr(shelf, "resolve", away)
        kept = dict(worker._models._loaded)
        worker._models._loaded.clear()
        assert not unless_in_trouble(worker.run_one)
        assert found(jobs, job_id).attempts == 0
        worker._models._loaded.update(kept)
        later_id = queue(jobs)
        assert worker.run_one()
        assert found(jobs, later_id).status == "completed", "what can be made is made meanwhile"
        assert found(jobs, job_id).status == "in_progress"
    time.sleep(1.6)
    assert worker.run_one()
    assert (found(jobs, job_id).status, found(jobs, job_id).attempts) == ("completed", 1)


def test_what_is_wrong_with_a_model_names_no_address_of_ours(
    worker: Worker, jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(model: object, folder: object) -> None:
        raise RegistryError("/srv/secret/mlflow has no such folder")

    job_id = queue(jobs)
    worker._models._loaded.clear()
    monkeypatch.setattr(worker._models, "_load", gone)
    assert worker.run_one()
    assert found(jobs, job_id).error_code == "generation_failed"
    assert "secret" not in (found(jobs, job_id).error_message or "")


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


def test_videos_of_equal_shape_are_made_in_one_batch(client, worker: Worker, painter, jobs: JobTable) -> None:
    same = [client.post("/v1/videos", json={"prompt": f"ball {n}", "seed": n}).json()["id"] for n in range(3)]
    other = client.post("/v1/videos", json={"prompt": "a cube", "size": "80x48"}).json()["id"]
    last = client.post("/v1/videos", json={"prompt": "ball 3", "seed": 3}).json()["id"]
    assert worker.run_one()
    assert painter.batches == [4]
    states = {video_id: client.get(f"/v1/videos/{video_id}").json()["status"] for video_id in [*same, other, last]}
    assert states == dict.fromkeys([*same, last], "completed") | {other: "queued"}


def test_a_batch_that_fails_is_made_one_by_one(client, worker: Worker, painter) -> None:
    made = [client.post("/v1/videos", json={"prompt": f"ball {n}"}).json()["id"] for n in range(3)]

    def stumble(step: int) -> None:
        if painter.prompts[-1] == "ball 2" or (painter.batches and len(painter.prompts) == 3):
            raise RuntimeError("broken")

    painter.on_step = stumble
    assert worker.run_one()
    assert [client.get(f"/v1/videos/{video_id}").json()["status"] for video_id in made] == [
        "completed",
        "completed",
        "failed",
    ]


def test_a_video_deleted_from_a_batch_does_not_hold_up_the_others(client, worker: Worker, painter, config) -> None:
    made = [client.post("/v1/videos", json={"prompt": f"ball {n}"}).json()["id"] for n in range(3)]

    def delete(step: int) -> None:
        client.delete(f"/v1/videos/{made[1]}")

    painter.on_step = delete
    assert worker.run_one()
    assert client.get(f"/v1/videos/{made[1]}").status_code == 404
    assert all(client.get(f"/v1/videos/{made[n]}").json()["status"] == "completed" for n in (0, 2))
    assert not (config.storage / made[1]).exists()


def test_a_batch_gives_the_pictures_that_each_alone_would(client, worker: Worker, packets) -> None:
    def content(video_id: str) -> list[bytes]:
        return packets(client.get(f"/v1/videos/{video_id}/content").content)

    body = {"prompt": "p", "seed": 4}
    alone = client.post("/v1/videos", json=body).json()["id"]
    assert worker.run_one()
    pair = [client.post("/v1/videos", json=body | {"seed": seed}).json()["id"] for seed in (4, 5)]
    assert worker.run_one()
    assert content(alone) == content(pair[0]) != content(pair[1])


def test_the_next_video_is_rendered_while_the_one_before_is_written(
    hire, config: ServeConfig, jobs: JobTable, painter, monkeypatch
) -> None:
    """Both leases are kept alive meanwhile, and no third video is begun."""
    written, rendered = threading.Event(), []
    finish = Draft.finish
    monkeypatch.setattr(Draft, "finish", lambda *words: (written.wait(30), finish(*words))[1])
    painter.on_step = lambda step: step == 1 and rendered.append(painter.prompts[-1])
    short = config.model_copy(update={"lease_s": 1.0, "max_batch": 1})
    ids = [queue(jobs, prompt=prompt) for prompt in ("one", "two", "three")]
    worker = hire(short, jobs)
    worker.start()
    until(lambda: rendered == ["one", "two"])
    time.sleep(2.5)
    assert [found(jobs, job_id).status for job_id in ids] == ["in_progress", "in_progress", "queued"]
    assert [found(jobs, job_id).attempts for job_id in ids] == [1, 1, 0]
    assert jobs.claim("another", lease_s=1, models=["nothing"]) is None
    written.set()
    until(lambda: all(found(jobs, job_id).status == "completed" for job_id in ids))
    assert [found(jobs, job_id).attempts for job_id in ids] == [1, 1, 1]


def test_of_a_long_video_only_a_few_pieces_wait(worker: Worker, jobs: JobTable, painter, monkeypatch) -> None:
    made, written, ahead = 0, 0, []
    stream, add = painter.stream, Draft.add

    def counted(*words, **named):
        nonlocal made
        for said in stream(*words, **named):
            if isinstance(said, Piece):
                made += 1
                ahead.append(made - written)
            yield said

    def slow_add(draft: Draft, frames: np.ndarray) -> None:
        nonlocal written
        time.sleep(0.01)
        add(draft, frames)
        written += 1

    monkeypatch.setattr(painter, "stream", counted)
    monkeypatch.setattr(Draft, "add", slow_add)
    job_id = queue(jobs, seconds="100")
    worker.run_one()
    assert found(jobs, job_id).status == "completed"
    assert (made, written) == (200, 200)
    assert 1 < max(ahead) <= 4


def test_a_long_video_that_is_deleted_midway_leaves_nothing(
    worker, jobs: JobTable, painter, config, monkeypatch
) -> None:
    job_id, stream = queue(jobs, seconds="100"), painter.stream

    def deleted_midway(*words, **named):
        for number, said in enumerate(stream(*words, **named)):
            if number == 50:
                worker._finisher.settle()
                assert list(config.storage.glob(f"{job_id}/.*/.video.mp4.*.part"))
                jobs.delete(job_id)
                yield Step(4, 4)
            yield said

    monkeypatch.setattr(painter, "stream", deleted_midway)
    assert worker.run_one()
    assert not (config.storage / job_id).exists()


class Step(NamedTuple):
    """A denoising step."""

    step: int
    num_steps: int


def until(condition) -> None:
    """Returns once the condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
