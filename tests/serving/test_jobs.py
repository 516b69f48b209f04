"""The job table's promises: one holder at a time, at most one result, nothing lost, steady paging."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from serving.store.database import Database
from serving.store.events import EventTable
from serving.store.jobs import IdempotencyConflictError, JobTable, NewJob, UnknownCursorError
from serving.store.tables import Job

A_JOB = NewJob(model="skyloom", prompt="a red ball", seconds="2", size="64x64", settings={"seed": 1}, fingerprint="f")


class Clock:
    """A clock that tests turn by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[JobTable]:
    is_sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path / 'jobs.db'}" if is_sqlite else request.getfixturevalue("postgres")())
    yield JobTable(database, max_attempts=3, clock=clock)
    database.close()


def test_commits_survive_a_power_cut_by_setting(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'jobs.db'}")._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_postgresql_ends_a_transaction_whose_process_sleeps(postgres) -> None:
    """Else a worker that was stopped in the middle of one would keep its job from the others for ever."""
    with Database(postgres())._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "30s"


def test_a_job_outlives_the_table_object(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    job, is_new = JobTable(Database(url)).create(A_JOB)
    found = JobTable(Database(url)).get(job.id)
    assert is_new
    assert found is not None
    assert (found.prompt, found.status, found.settings) == ("a red ball", "queued", {"seed": 1})


def test_jobs_are_claimed_oldest_first_and_once(table: JobTable) -> None:
    made = [table.create(A_JOB)[0].id for _ in range(3)]
    claimed = [lease.job.id for lease in iter(lambda: table.claim("w", lease_s=10), None)]
    assert claimed == made


def test_a_lost_lease_is_taken_over_and_its_fence_is_dead(table: JobTable, clock: Clock) -> None:
    table.create(A_JOB)
    first = table.claim("a", lease_s=10)
    assert first is not None
    assert table.claim("b", lease_s=10) is None
    clock.now_s += 11
    second = table.claim("b", lease_s=10)
    assert second is not None
    assert (second.job.id, second.fence, second.job.attempts) == (first.job.id, first.fence + 1, 2)
    assert not table.renew(first, lease_s=10, progress=50)
    assert not table.complete(first, {"from": "a"})
    assert not table.fail(first, code="x", message="x")
    assert table.complete(second, {"from": "b"})
    assert not table.complete(second, {"from": "b again"})
    job = table.get(first.job.id)
    assert job is not None
    assert (job.status, job.progress, job.result) == ("completed", 100, {"from": "b"})


def test_renewing_keeps_the_lease(table: JobTable, clock: Clock) -> None:
    table.create(A_JOB)
    lease = table.claim("a", lease_s=10)
    assert lease is not None
    for _ in range(5):
        clock.now_s += 8
        assert table.renew(lease, lease_s=10)
    assert table.claim("b", lease_s=10) is None


def test_a_job_that_loses_three_workers_fails(table: JobTable, clock: Clock) -> None:
    job, _ = table.create(A_JOB)
    for _ in range(3):
        assert table.claim("a", lease_s=10) is not None
        clock.now_s += 11
    assert table.claim("a", lease_s=10) is None
    found = table.get(job.id)
    assert found is not None
    assert (found.status, found.error_code) == ("failed", "attempts_exhausted")


def test_a_renewal_that_comes_late_does_not_undo_a_release(table: JobTable) -> None:
    table.create(A_JOB)
    lease = table.claim("first", lease_s=60)
    assert lease
    assert table.release(lease)
    assert not table.renew(lease, lease_s=60, progress=50)
    assert table.claim("second", lease_s=60)


def test_what_clients_see_moves_forward_only(table: JobTable, clock: Clock) -> None:
    job, _ = table.create(A_JOB)
    first = table.claim("first", lease_s=10)
    assert first
    assert table.renew(first, lease_s=10, progress=80)
    assert table.release(first)
    second = table.claim("second", lease_s=10)
    assert second
    for percent in (10, 80, 90):
        assert table.renew(second, lease_s=10, progress=percent)
    events = EventTable(table.database).after(job.id)
    assert [(event.type, event.progress) for event in events] == [
        ("video.queued", 0), ("video.in_progress", 0), ("video.progress", 80), ("video.progress", 90)
    ]  # fmt: skip


def test_a_deleted_job_does_not_fail_as_well(table: JobTable, clock: Clock) -> None:
    gone, _ = table.create(A_JOB)
    other, _ = table.create(A_JOB)
    for _ in range(3):
        for worker in ("one", "two"):
            assert table.claim(worker, lease_s=10)
        clock.now_s += 11
    assert table.delete(gone.id)
    assert table.claim("one", lease_s=10) is None
    kinds = {job.id: [event.type for event in EventTable(table.database).after(job.id)] for job in (gone, other)}
    assert kinds[gone.id][-1] == "video.deleted"
    assert kinds[other.id][-1] == "video.failed"
    waiting, _ = table.create(A_JOB)
    table.delete(waiting.id)
    with table.database.read() as session:
        assert set(session.scalars(select(Job.status))) == {"failed"}, "nobody looks through what is deleted"


def test_a_released_job_does_not_lose_an_attempt(table: JobTable) -> None:
    table.create(A_JOB)
    for _ in range(5):
        lease = table.claim("a", lease_s=10)
        assert lease is not None
        assert lease.job.attempts == 1
        assert table.release(lease)
        assert not table.complete(replace(lease, fence=lease.fence - 1), {})


def test_deleting_cancels_and_hides(table: JobTable) -> None:
    waiting, running = table.create(A_JOB)[0], table.create(A_JOB)[0]
    assert table.delete(waiting.id)
    lease = table.claim("a", lease_s=10)
    assert lease is not None
    assert lease.job.id == running.id
    assert table.delete(running.id)
    assert not table.delete(running.id)
    assert not table.renew(lease, lease_s=10)
    assert not table.complete(lease, {})
    assert table.get(running.id) is None
    assert table.list().jobs == []
    assert table.claim("a", lease_s=10) is None


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_paging_sees_each_job_once_though_some_vanish(table: JobTable, order: str) -> None:
    made = [table.create(A_JOB)[0].id for _ in range(7)]
    seen: list[str] = []
    after, more = None, True
    while more:
        page = table.list(after=after, limit=2, order=order)  # pyright: ignore[reportArgumentType]
        seen += [job.id for job in page.jobs]
        after, more = seen[-1], page.has_more
        table.delete(seen[-1])
    assert seen == (made if order == "asc" else made[::-1])


def test_an_unknown_cursor_is_refused(table: JobTable) -> None:
    with pytest.raises(UnknownCursorError):
        table.list(after="video_never")


def test_an_idempotency_key_makes_one_job(table: JobTable) -> None:
    keyed = replace(A_JOB, idempotency_key="k")
    first, second = table.create(keyed), table.create(keyed)
    assert (first[1], second[1]) == (True, False)
    assert first[0].id == second[0].id
    with pytest.raises(IdempotencyConflictError):
        table.create(replace(keyed, fingerprint="other"))


@pytest.mark.parametrize("sign", [{"idempotency_key": "k"}, {"is_retry": True}])
def test_a_request_repeated_from_many_threads_makes_one_job(table: JobTable, sign: dict[str, Any]) -> None:
    ids: list[str] = []
    repeated = replace(A_JOB, **sign)
    threads = [threading.Thread(target=lambda: ids.append(table.create(repeated)[0].id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert len(table.list().jobs) == 1


def test_only_a_recent_retry_of_the_same_request_is_the_same_job(table: JobTable, clock: Clock) -> None:
    first = table.create(A_JOB)[0].id
    retry = replace(A_JOB, is_retry=True)
    assert table.create(retry)[0].id == first
    assert table.create(A_JOB)[0].id != first
    assert table.create(replace(retry, fingerprint="other"))[1]
    clock.now_s += 3600
    assert table.create(retry)[1]


def test_concurrent_claims_never_share_a_job(table: JobTable) -> None:
    num_jobs = 20
    for _ in range(num_jobs):
        table.create(A_JOB)
    claimed: list[str] = []

    def work() -> None:
        claimed.extend(lease.job.id for lease in iter(lambda: table.claim("w", lease_s=100), None))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == num_jobs
