"""The durable job table: an id once given is never lost, ends completed or failed, and has at most one result.

Workers pull. A claim gives a lease (time) and a fence (a number that only grows); every write of a worker names its
fence, so one that slept through its lease is refused. A job whose lease ran out is claimed again, its status staying
`in_progress`: what a client sees only ever moves forward.
"""

import math
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, and_, case, func, not_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serving.store.admission import UNLIMITED, WAITING, Admission
from serving.store.claims import ended, fail_hopeless, renewed, taken
from serving.store.database import Database
from serving.store.events import EventType, add_event, record
from serving.store.statements import (
    CLAIMABLE,
    HELD,
    INSERT,
    OUTLOOK,
    UNFINISHED,
    alive,
    asks_for,
    lost_at,
)
from serving.store.tables import PICTURE_PREFIX, Job

FRESH_S, LAST = 0.25, 2**62
RETRY_WINDOW_S = 600.0  # how long the SDK's own retry of a lost reply can take, with room


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a client asked for, checked and complete: the same row gives the same bytes on any attempt."""

    model: str
    prompt: str
    seconds: str
    size: str
    settings: dict[str, Any]
    fingerprint: str = ""
    batch_key: str = ""
    trace: str = ""
    owner: str = ""
    idempotency_key: str | None = None
    is_retry: bool = False


@dataclass(frozen=True)
class Lease:
    """The right to work on one job, until the lease runs out and another claims it."""

    job: Job
    fence: int


class Page(NamedTuple):
    """One page of a listing."""

    jobs: Sequence[Job]
    has_more: bool


class UnknownCursorError(LookupError):
    """A listing was asked to go on after a job that never existed."""


class IdempotencyConflictError(ValueError):
    """An idempotency key came back with another request."""


class JobTable:
    """The jobs of one server; safe from many threads, processes and machines at once."""

    def __init__(self, database: Database, *, max_attempts: int = 3, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self._max_attempts = max_attempts
        self._clock = clock
        self._looked_s = -math.inf
        self._at_end: tuple[int, float | None] = (0, None)

    # the client's side

    def create(self, new: NewJob, admission: Admission = UNLIMITED) -> tuple[Job, bool]:
        """The job, and whether it is new: a repeated request gets the job that it already made.

        Raises:
            IdempotencyConflictError: the key was used before, with another request.
            AdmissionError: the queue is full, or the owner has asked for enough.
        """
        return self.create_all([new], admission)[0]

    def create_all(self, wanted: Sequence[NewJob], admission: Admission = UNLIMITED) -> Sequence[tuple[Job, bool]]:
        """As `create`, for several jobs of one owner: all of them or none."""
        try:
            # rows without a session, whose bookkeeping takes longer than the insert
            with self.database.connect() as connection:
                return [self._put(connection, new, admission) for new in wanted]
        except IntegrityError:  # on PostgreSQL the same key may have been inserted since we looked
            with self.database.connect() as connection:
                known = [self._repeated(connection, new) for new in wanted]
            if None in known:
                raise
            return [(job, False) for job in known if job is not None]

    def get(self, job_id: str, owner: str | None = None) -> Job | None:
        """The job, or None when it never was, is deleted, or is another's than the `owner` that is named."""
        query = alive().where(Job.id == job_id)
        with self.database.read() as session:
            return session.scalars(query if owner is None else query.where(Job.owner == owner)).one_or_none()

    def list(
        self, owner: str = "", *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """The owner's videos by creation, beginning behind the job `after`, which may be deleted by now.

        Raises:
            UnknownCursorError: the owner never had a job `after`.
        """
        query = (
            alive()
            .where(Job.owner == owner, not_(Job.id.startswith(PICTURE_PREFIX, autoescape=True)))
            .order_by(Job.sequence.asc() if order == "asc" else Job.sequence.desc())
            .limit(limit + 1)
        )
        with self.database.read() as session:
            if after is not None:
                cursor = session.scalar(select(Job.sequence).where(Job.id == after, Job.owner == owner))
                if cursor is None:
                    raise UnknownCursorError(after)
                query = query.where(Job.sequence > cursor if order == "asc" else Job.sequence < cursor)
            jobs = session.scalars(query).all()
        return Page(jobs[:limit], has_more=len(jobs) > limit)

    def delete(self, job_id: str) -> bool:
        """Whether there was such a job; it is gone now, and a worker that has it is refused from here on."""
        now = self._clock()
        # not `queued` for ever: idle workers look through those that wait
        ended = case((Job.completed_s.is_(None), "failed"), else_=Job.status)
        gone = {"deleted_s": now, "idempotency_key": None, "prompt": "", "settings": {}, "fingerprint": ""}
        gone |= {"status": ended}
        statement = update(Job).where(Job.id == job_id, Job.deleted_s.is_(None)).values(gone).returning(Job.owner)
        with self.database.write() as session:
            owner = session.scalar(statement)
            if owner is not None:
                record(session, job_id, owner, "video.deleted", now=now)
        return owner is not None

    def num_waiting(self) -> int:
        """Jobs that no worker has begun."""
        return self.database.first(WAITING)[0]

    def num_pending(self) -> int:
        """Jobs that wait or are being made."""
        return self.database.first(UNFINISHED)[0]

    def outlook(self, job: Job) -> tuple[int, float | None]:
        """How many jobs wait before this one, and the mean seconds that the last completed ones took, if any."""
        num_before, duration_s = self.database.first(OUTLOOK, {"sequence": job.sequence})
        return num_before, duration_s

    def outlook_at_end(self) -> tuple[int, float | None]:
        """As `outlook`, for a job that was queued just now, as of a moment ago."""
        if not 0 <= self._clock() - self._looked_s < FRESH_S:
            self._at_end = self.database.first(OUTLOOK, {"sequence": LAST})
            self._looked_s = self._clock()
        return self._at_end

    # the worker's side

    def claim(self, worker: str, *, lease_s: float, models: Collection[str] | None = None) -> Lease | None:
        """The oldest job (of these models or versions of them) that waits or has lost its worker, now leased, or None.

        A job that lost its worker `max_attempts` times is failed here instead: it may be what kills them.
        """
        return next(iter(self.claim_batch(worker, lease_s=lease_s, models=models, limit=1)), None)

    def claim_batch(
        self, worker: str, *, lease_s: float, models: Collection[str] | None = None, limit: int
    ) -> Sequence[Lease]:
        """As `claim`, with the oldest waiting jobs that can be made in one batch with it: so many at most in all."""
        now = self._clock()
        is_waiting, is_lost = self.database.first(CLAIMABLE, {"now": now})  # an idle worker asks often: no lock
        if not (is_waiting or is_lost):
            return []
        with self.database.write() as session:
            if is_lost:
                fail_hopeless(session, now=now, max_attempts=self._max_attempts)
            mine = or_(Job.status == "queued", lost_at(now))
            if models is not None:
                mine = and_(mine, asks_for(models))
            # the lease begins here: the lock may have been long in coming
            take = partial(taken, session, worker=worker, now=self._clock(), lease_s=lease_s)
            jobs = list(take(mine, limit=1))
            if jobs and jobs[0].batch_key and limit > 1:
                alike = and_(Job.status == "queued", Job.batch_key == jobs[0].batch_key)
                jobs += take(alike, limit=limit - 1)
        return [Lease(job, job.fence) for job in jobs]

    def renew(self, lease: Lease, *, lease_s: float, progress: int | None = None) -> bool:
        """Whether the lease is still held, now for `lease_s` more; False means: stop, another has the job."""
        return self.renew_all({lease: progress}, lease_s=lease_s) == {lease}

    def renew_all(self, progress: Mapping[Lease, int | None], *, lease_s: float) -> set[Lease]:
        """As `renew` for several leases in one commit: those that are still held; progress in percent, where known."""
        now = self._clock()
        with self.database.connect() as connection:  # no session, and statements that are made
            return {
                lease
                for lease, percent in progress.items()
                if renewed(connection, lease.job, lease.fence, now=now, lease_s=lease_s, percent=percent)
            }

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is still live: a question that writes nothing, for after every denoising step."""
        return self.database.first(HELD, _of(lease)) is not None

    def complete(self, lease: Lease, result: dict[str, Any]) -> bool:
        """Whether the result was taken; False when the fence is no longer live, and the result must be thrown away."""
        values = ended("completed", self._clock()) | {"progress": 100, "result": result}
        return self._write_fenced(lease, values, "video.completed")

    def fail(self, lease: Lease, *, code: str, message: str) -> bool:
        """Whether the failure was taken; False when the fence is no longer live."""
        error = {"error_code": code, "error_message": message}
        return self._write_fenced(lease, ended("failed", self._clock()) | error, "video.failed")

    def release(self, lease: Lease, after_s: float = 0.0) -> bool:
        """Whether the job was handed back, the attempt not counted; others find it after a while, or at once."""
        until = {"lease_until_s": self._clock() + after_s if after_s else 0.0}
        # a later fence: this worker may be renewing the lease at this very moment
        return self._write_fenced(lease, {**until, "attempts": Job.attempts - 1, "fence": Job.fence + 1})

    def _write_fenced(self, lease: Lease, values: dict[str, Any], happened: EventType | None = None) -> bool:
        live = (Job.id == lease.job.id, Job.fence == lease.fence, Job.status == "in_progress", Job.deleted_s.is_(None))
        with self.database.write() as session:
            progress = session.scalar(update(Job).where(*live).values(values).returning(Job.progress))
            if progress is not None and happened is not None:
                record(session, lease.job.id, lease.job.owner, happened, now=self._clock(), progress=progress)
        return progress is not None

    def _put(self, connection: Connection, new: NewJob, admission: Admission) -> tuple[Job, bool]:
        if self.database.is_postgresql:  # one request of an owner at a time; SQLite has one writer anyway
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(new.owner))))
        known = self._repeated(connection, new)
        if known is not None:
            return known, False
        now = self._clock()
        admission.check(connection, new.owner, now)
        row = _row(new, now)
        job = Job(sequence=connection.execute(INSERT, row).scalar_one(), **row)
        add_event(connection, job.id, job.owner, "video.queued", now=now)
        return job, True

    def _repeated(self, connection: Connection, new: NewJob) -> Job | None:
        if new.idempotency_key is None and not new.is_retry:
            return None
        mine = alive().where(Job.owner == new.owner)
        if new.idempotency_key is not None:
            mine = mine.where(Job.idempotency_key == new.idempotency_key)
        else:
            mine = mine.where(Job.fingerprint == new.fingerprint, Job.created_s >= self._clock() - RETRY_WINDOW_S)
        with Session(connection) as session:
            known = session.scalars(mine.order_by(Job.sequence.desc()).limit(1)).one_or_none()
        if known is not None and known.fingerprint != new.fingerprint:
            raise IdempotencyConflictError(new.idempotency_key)
        return known


def _of(lease: Lease) -> dict[str, Any]:
    return {"of_id": lease.job.id, "of_fence": lease.fence}


def _row(new: NewJob, now: float) -> dict[str, Any]:
    is_picture = new.settings.get("operation", {}).get("kind") == "image"
    return {
        "id": f"{PICTURE_PREFIX if is_picture else 'video_'}{secrets.token_hex(16)}",
        "status": "queued",
        "progress": 0,
        "created_s": now,
        "model": new.model,
        "prompt": new.prompt,
        "seconds": new.seconds,
        "size": new.size,
        "settings": new.settings,
        "owner": new.owner,
        "fingerprint": new.fingerprint,
        "batch_key": new.batch_key,
        "trace": new.trace,
        "idempotency_key": new.idempotency_key,
    }
