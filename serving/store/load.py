"""How busy a server is, by its job table."""

from typing import NamedTuple

from sqlalchemy import func, select

from serving.store.database import Database
from serving.store.tables import Job

_MOST_JOBS = 1000


class Load(NamedTuple):
    """Jobs by status, the oldest wait, and the parts of recent videos in seconds."""

    by_status: dict[str, int]
    oldest_wait_s: float
    recent_s: dict[str, list[float]]


def measure_load(database: Database, now: float, recent_s: float) -> Load:
    """How busy the server is; its recent videos are those that completed within `recent_s`."""
    by_status = select(Job.status, func.count()).where(Job.deleted_s.is_(None)).group_by(Job.status)
    oldest = select(func.min(Job.created_s)).where(Job.status == "queued", Job.deleted_s.is_(None))
    recent = select(Job).where(Job.status == "completed", Job.completed_s > now - recent_s)
    with database.read() as session:
        counts = dict(session.execute(by_status).tuples().all())
        first = session.scalar(oldest)
        jobs = session.scalars(recent.order_by(Job.sequence.desc()).limit(_MOST_JOBS)).all()
    parts: dict[str, list[float]] = {}
    for job in jobs:
        wait = {"wait": (job.started_s or job.created_s) - job.created_s}
        for part, seconds in (wait | (job.result or {}).get("seconds", {})).items():
            parts.setdefault(part, []).append(seconds)
    return Load(counts, 0.0 if first is None else now - first, parts)
