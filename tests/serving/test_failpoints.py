"""A worker that dies at each point where two things must happen together: one result, no orphan (R3)."""

import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from serving.config import ServeConfig
from serving.draft import Draft
from serving.store.janitor import YOUNG_S, Janitor
from serving.store.jobs import JobTable, NewJob
from serving.store.storage import VideoStorage
from serving.worker import Worker

ROUNDS = 20
SETTINGS = {"seed": 1, "num_inference_steps": 4, "guidance_scale": 2.0, "negative_prompt": "", "fps": 8.0}
A_JOB = NewJob(model="skyloom", prompt="a ball", seconds="1", size="48x32", settings=SETTINGS)
Hire = Callable[[ServeConfig, JobTable], Worker]


class KilledError(BaseException):
    """Stands for signal 9: nothing catches it, nothing is cleaned up."""


def die(*_: Any, **__: Any) -> NoReturn:
    """The end of the process."""
    raise KilledError


def die_after(call: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Does it, and dies before anybody hears of it."""

    def wrapped(*words: Any, **named: Any) -> NoReturn:
        call(*words, **named)
        raise KilledError

    return wrapped


POINTS = {
    "claimed, nothing made": ("serving.worker.make", die),
    "made, nothing written": ("serving.draft.Draft.add", die),
    "half written": ("serving.draft.Draft.add", die_after(Draft.add)),
    "written, nothing signed": ("serving.draft.Draft.finish", die),
    "in place, the row does not know": ("serving.draft.Draft.finish", die_after(Draft.finish)),
    "the row knows, old attempts not cleared": (
        "serving.store.storage.VideoStorage.keep_only",
        die,
    ),
    "the row's commit was not heard": (
        "serving.store.jobs.JobTable.complete",
        die_after(JobTable.complete),
    ),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_death_leaves_one_result_and_no_orphan(
    point: str, config: ServeConfig, jobs: JobTable, hire: Hire, packets, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.model_copy(update={"lease_s": 0.02})
    target, deadly = POINTS[point]
    storage, pictures = VideoStorage(config.storage), set()
    for _ in range(ROUNDS):
        job_id = jobs.create(A_JOB)[0].id
        doomed = hire(config, jobs)
        with monkeypatch.context() as patch:
            patch.setattr(target, deadly)
            patch.setattr("serving.draft.Draft.discard", lambda draft: None)
            with pytest.raises(KilledError):
                doomed.run_one()
        time.sleep(0.03)
        survivor = hire(config, jobs)
        while survivor.run_one():
            pass
        job = jobs.get(job_id)
        assert job is not None
        assert (job.status, job.attempts <= 2) == ("completed", True)
        pictures.add(tuple(packets(storage.path(job, "video").read_bytes())))
        results = [path.parent.name for path in config.storage.glob(f"{job_id}/*/video.mp4")]
        assert str(job.fence) in results
    assert len(pictures) == 1
    age_all(config)
    Janitor(config, jobs.database).sweep()
    for folder in config.storage.glob("video_*"):
        job = jobs.get(folder.name)
        assert job is not None
        assert [path.name for path in folder.iterdir()] == [str(job.fence)]


def age_all(config: ServeConfig) -> None:
    """Everything in the storage was touched long ago."""
    long_ago = time.time() - 2 * YOUNG_S
    for path in config.storage.rglob("*"):
        os.utime(path, (long_ago, long_ago))
