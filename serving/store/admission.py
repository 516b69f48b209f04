"""Whether one more job is taken: how long the queue may be, and how much an API key may ask for."""

from typing import NamedTuple

from pydantic import Field
from sqlalchemy import ColumnElement, Connection, Select, func, select

from model.config import Config
from serving.store.driver import first_row
from serving.store.tables import Job

MINUTE_S, DAY_S = 60.0, 86_400.0
LONGEST_ADVICE_S = 120.0  # the SDK gives up at once when it is told to wait longer
WAITING = select(func.count()).select_from(Job).where(Job.status == "queued", Job.deleted_s.is_(None))
"""How many jobs wait."""

FIRST_GUESS_S = 5.0  # how long a video takes, before the first was made


def _recent_s(num_recent: int = 8) -> Select[tuple[float | None]]:
    recent = (
        select((Job.completed_s - Job.started_s).label("duration_s"))
        .where(Job.status == "completed")
        .order_by(Job.sequence.desc())
        .limit(num_recent)
        .subquery()
    )
    return select(func.avg(recent.c.duration_s))


RECENT_S = _recent_s()
"""How long the last videos took, on the average."""


class Quota(Config):
    """How much one owner may ask for; None means as much as there is."""

    max_active: int | None = Field(default=None, ge=1, description="videos queued or being made at once")
    max_per_minute: int | None = Field(default=None, ge=1, description="videos asked for within a minute")
    max_compute_s_per_day: float | None = Field(default=None, gt=0, description="seconds of making within 24 hours")


class TooManyError(Exception):
    """One owner has as many of something as anybody may keep."""


class AdmissionError(Exception):
    """A job was not taken, and no row of it exists."""

    def __init__(self, code: str, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = min(max(1.0, retry_after_s), LONGEST_ADVICE_S)


class Admission(NamedTuple):
    """The limits that hold for one request."""

    max_waiting: int | None = None
    quota: Quota = Quota()

    def check(self, connection: Connection, owner: str, now: float) -> None:
        """Passes when one more job of the owner keeps within the limits; runs in the transaction that inserts it.

        Raises:
            AdmissionError: it would not.
        """
        if self.max_waiting is not None and first_row(connection, WAITING)[0] >= self.max_waiting:
            raise AdmissionError("queue_full", f"{self.max_waiting} videos are waiting already; try again later.", 30)
        _check_active(connection, owner, self.quota.max_active)
        _check_rate(connection, owner, self.quota.max_per_minute, now)
        _check_compute(connection, owner, self.quota.max_compute_s_per_day, now)


UNLIMITED = Admission()


def _check_active(connection: Connection, owner: str, most: int | None) -> None:
    if most is not None and _count(connection, Job.owner == owner, Job.status.in_(("queued", "in_progress"))) >= most:
        message = f"This API key may have {most} unfinished videos at once; wait for one or delete it."
        raise AdmissionError("quota_exceeded", message, 10)


def _check_rate(connection: Connection, owner: str, most: int | None, now: float) -> None:
    """Deleted jobs count too: deleting must not give the minute back."""
    if most is None:
        return
    recent = select(Job.created_s).where(Job.owner == owner, Job.created_s > now - MINUTE_S)
    # the limit frees up when the `most`-th newest request is a minute old
    blocking = connection.scalar(recent.order_by(Job.created_s.desc()).offset(most - 1).limit(1))
    if blocking is not None:
        message = f"This API key may ask for {most} videos a minute; try again later."
        raise AdmissionError("rate_limit_exceeded", message, blocking + MINUTE_S - now)


def _check_compute(connection: Connection, owner: str, most: float | None, now: float) -> None:
    if most is None:
        return
    spent = func.sum(func.coalesce(Job.completed_s, Job.deleted_s, now) - Job.started_s)
    used = connection.scalar(select(spent).where(Job.owner == owner, Job.started_s > now - DAY_S)) or 0.0
    # what waits will be made too: without it a key could ask for any number before the first is begun
    num_waiting = _count(connection, Job.owner == owner, Job.status == "queued")
    if num_waiting:
        used += num_waiting * (connection.scalar(RECENT_S) or FIRST_GUESS_S)
    if used >= most:
        message = f"This API key has used, or asked for, its {most:g} seconds of making within 24 hours."
        raise AdmissionError("quota_exceeded", message, LONGEST_ADVICE_S)


def _count(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(Job).where(Job.deleted_s.is_(None), *conditions)
    return connection.scalar(query) or 0
