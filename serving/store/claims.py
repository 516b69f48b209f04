"""What a claim writes, inside its transaction: the oldest jobs become a worker's, stay so, or end as its killers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.orm import Session

from serving.store.driver import first_row
from serving.store.events import add_event, record
from serving.store.statements import PROGRESS, RENEW, lost_at
from serving.store.tables import Job


def taken(
    session: Session, which: ColumnElement[bool], *, worker: str, now: float, lease_s: float, limit: int
) -> Sequence[Job]:
    """The oldest of these jobs, now leased to the worker under a new fence."""
    oldest = (
        select(Job.sequence)
        .where(Job.deleted_s.is_(None), which)
        .order_by(Job.sequence)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    mine = {"status": "in_progress", "fence": Job.fence + 1, "attempts": Job.attempts + 1, "worker": worker}
    times = {"lease_until_s": now + lease_s, "started_s": func.coalesce(Job.started_s, now)}
    found = list(session.scalars(oldest))
    taking = update(Job).where(Job.sequence.in_(found)).values(mine | times).returning(Job)
    jobs = sorted(session.scalars(taking), key=lambda job: job.sequence) if found else []
    for job in jobs:
        if job.fence == 1:  # attempts may go back
            record(session, job.id, job.owner, "video.in_progress", now=now)
    return jobs


def renewed(
    connection: Connection, job: Job, fence: int, *, now: float, lease_s: float, percent: int | None = None
) -> bool:
    """Whether the fence is live: then the lease lasts for `lease_s` more, and the job is as far as is said.

    What is less than an earlier attempt had reached says nothing: what clients see never moves backward.
    """
    values = {"of_id": job.id, "of_fence": fence, "until_s": now + lease_s}
    if percent is not None:
        percent = min(max(percent, 0), 99)
        if first_row(connection, PROGRESS, {**values, "percent": percent}) is not None:
            add_event(connection, job.id, job.owner, "video.progress", now=now, progress=percent)
            return True
    return first_row(connection, RENEW, values) is not None


def fail_hopeless(session: Session, *, now: float, max_attempts: int) -> None:
    """Ends the jobs that lost their worker so often: they may be what kills them."""
    exhausted = ended("failed", now) | {
        "error_code": "attempts_exhausted",
        "error_message": f"The worker was lost {max_attempts} times while making this video.",
    }
    hopeless = update(Job).where(lost_at(now), Job.deleted_s.is_(None), Job.attempts >= max_attempts).values(exhausted)
    for failed in session.scalars(hopeless.returning(Job)):
        record(session, failed.id, failed.owner, "video.failed", now=now, progress=failed.progress)


def ended(status: str, now: float) -> dict[str, Any]:
    """The columns of a job that has come to its end."""
    return {"status": status, "completed_s": now, "lease_until_s": None}
