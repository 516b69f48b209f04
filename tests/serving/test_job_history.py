"""Any order of requests, claims, lost workers and deletions leaves a history that makes sense (R13)."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from serving.store.database import Database
from serving.store.jobs import IdempotencyConflictError, JobTable, Lease, NewJob

A_JOB = NewJob(model="skyloom", prompt="a ball", seconds="2", size="64x64", settings={"seed": 1})
LEASE_S, MAX_ATTEMPTS = 10.0, 3


@dataclass
class Known:
    """What a job must be, as told by everything that happened to it."""

    id: str
    prompt: str
    key: str | None
    status: str = "queued"
    fence: int = 0
    attempts: int = 0
    lease_until_s: float | None = None
    result: Any = None
    is_deleted: bool = False

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is still the live one."""
        return not self.is_deleted and self.status == "in_progress" and self.fence == lease.fence


class JobHistory(RuleBasedStateMachine):
    """The table beside a plain dictionary; every answer of the one is held against the other."""

    leases = Bundle("leases")
    new_url = staticmethod(lambda: "sqlite://")

    @initialize()
    def begin(self) -> None:
        """An empty table."""
        self.database = Database(self.new_url())
        self.now_s = 1000.0
        self.table = JobTable(self.database, max_attempts=MAX_ATTEMPTS, clock=lambda: self.now_s)
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        """Forget it."""
        if hasattr(self, "database"):
            self.database.close()

    @rule(key=st.sampled_from([None, "a", "b"]), prompt=st.sampled_from(["ball", "cube"]))
    def create(self, key: str | None, prompt: str) -> None:
        """A request, perhaps repeated, perhaps with a key that another request had."""
        new = replace(A_JOB, prompt=prompt, fingerprint=prompt, idempotency_key=key)
        same = next((k for k in self.known.values() if key and k.key == key and not k.is_deleted), None)
        if same is not None and same.prompt != prompt:
            with pytest.raises(IdempotencyConflictError):
                self.table.create(new)
            return
        job, is_new = self.table.create(new)
        assert is_new == (same is None)
        if same is None:
            assert job.id not in self.known
            self.known[job.id] = Known(job.id, prompt, key)
        else:
            assert job.id == same.id

    @rule(target=leases, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, worker: str) -> Lease | None:
        """A worker asks for the next job; what lost its worker too often is failed first."""
        for known in self.known.values():
            if self._is_lost(known) and known.attempts >= MAX_ATTEMPTS:
                known.status, known.lease_until_s = "failed", None
        waiting = (k for k in self.known.values() if not k.is_deleted and (k.status == "queued" or self._is_lost(k)))
        expected = next(waiting, None)
        lease = self.table.claim(worker, lease_s=LEASE_S)
        assert (lease.job.id if lease else None) == (expected.id if expected else None)
        if lease and expected:
            assert lease.fence > expected.fence
            expected.status, expected.fence = "in_progress", lease.fence
            expected.attempts, expected.lease_until_s = expected.attempts + 1, self.now_s + LEASE_S
        return lease

    @rule(lease=leases)
    def renew(self, lease: Lease | None) -> None:
        """A worker shows that it lives."""
        if lease is None:
            return
        known = self.known[lease.job.id]
        assert self.table.renew(lease, lease_s=LEASE_S, progress=50) == known.holds(lease)
        if known.holds(lease):
            known.lease_until_s = self.now_s + LEASE_S

    @rule(lease=leases, is_good=st.booleans())
    def finish(self, lease: Lease | None, is_good: bool) -> None:
        """A worker hands in a result or a failure; a stale one is refused."""
        if lease is None:
            return
        known, result = self.known[lease.job.id], {"fence": lease.fence}
        holds = known.holds(lease)
        if is_good:
            assert self.table.complete(lease, result) == holds
        else:
            assert self.table.fail(lease, code="c", message="m") == holds
        if holds:
            known.status, known.result = ("completed", result) if is_good else ("failed", None)

    @rule(lease=leases)
    def release(self, lease: Lease | None) -> None:
        """A worker that is asked to stop hands the job back."""
        if lease is None:
            return
        known = self.known[lease.job.id]
        holds = known.holds(lease)
        assert self.table.release(lease) == holds
        if holds:
            known.attempts, known.fence, known.lease_until_s = known.attempts - 1, known.fence + 1, 0.0

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A client deletes a video, perhaps for the second time."""
        if not self.known:
            return
        by_age = list(self.known)  # ids are random, and a history must repeat
        known = self.known[data.draw(st.sampled_from(by_age))]
        assert self.table.delete(known.id) != known.is_deleted
        known.is_deleted = True

    @rule(seconds=st.sampled_from([1.0, LEASE_S + 1]))
    def wait(self, seconds: float) -> None:
        """Time passes; leases may run out."""
        self.now_s += seconds

    @invariant()
    def every_answer_is_as_it_must_be(self) -> None:
        """What is read is what was written; a deleted job stays gone; a result never changes."""
        for known in getattr(self, "known", {}).values():
            job = self.table.get(known.id)
            if known.is_deleted:
                assert job is None
                continue
            assert job is not None
            assert (job.status, job.fence, job.attempts) == (known.status, known.fence, known.attempts)
            assert job.result == known.result

    @invariant()
    def the_list_shows_each_living_job_once(self) -> None:
        """Pages of two, put together, are all that is there, in order."""
        if not hasattr(self, "known"):
            return
        alive = [known.id for known in self.known.values() if not known.is_deleted]
        assert pages(self.table, size=2) == alive

    def _is_lost(self, known: Known) -> bool:
        lease = known.lease_until_s
        return known.status == "in_progress" and not known.is_deleted and lease is not None and lease < self.now_s


def pages(table: JobTable, size: int) -> list[str]:
    """The ids of all pages, oldest first."""
    found: list[str] = []
    while True:
        page = table.list(after=found[-1] if found else None, limit=size, order="asc")
        found += [job.id for job in page.jobs]
        if not page.has_more:
            return found


def run_histories(number: int, steps: int, machine: type[JobHistory] = JobHistory) -> None:
    """Tries so many histories of so many steps."""
    quiet = settings(
        max_examples=number, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=quiet)


def test_histories() -> None:
    run_histories(25, 25)


def test_histories_on_postgresql(postgres: Callable[[], str]) -> None:
    class OnPostgresql(JobHistory):
        new_url = staticmethod(postgres)

    run_histories(12, 25, OnPostgresql)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_many_long_histories() -> None:
    run_histories(1000, 50)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_reader_of_pages_misses_nothing_while_ten_write(tmp_path: Path) -> None:
    """10,000 jobs by 10 writers: all that were there when the reader began are read once, none twice."""
    database = Database(f"sqlite:///{tmp_path / 'jobs.db'}")
    table, begun = JobTable(database), threading.Event()

    def write(writer: int) -> list[str]:
        made = []
        for number in range(1000):
            made.append(table.create(replace(A_JOB, prompt=f"{writer} {number}"))[0].id)
            if number == 100:
                begun.set()
        return made

    with ThreadPoolExecutor(11) as pool:
        writers = [pool.submit(write, writer) for writer in range(10)]
        begun.wait(60)
        while not all(writer.done() for writer in writers):
            before = {job.id for job in table.list(limit=1000, order="asc").jobs}
            read = pages(table, size=97)
            assert len(read) == len(set(read))
            assert before <= set(read)
        made = [job_id for writer in writers for job_id in writer.result()]
    assert sorted(pages(table, size=97)) == sorted(made)
    database.close()
