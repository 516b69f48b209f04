"""The job table's statements that every request or every idle moment runs, made once: to build one costs more."""

from collections.abc import Collection

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from serving.store.admission import RECENT_S, WAITING
from serving.store.tables import Job


def alive() -> Select[tuple[Job]]:
    """The jobs that are not deleted."""
    return select(Job).where(Job.deleted_s.is_(None))


def asks_for(names: Collection[str]) -> ColumnElement[bool]:
    """Whether a job is to be made by one of these models, or by a version of one (`NAME@VERSION`)."""
    versions = (func.substr(Job.model, 1, len(name) + 1) == f"{name}@" for name in names)
    return or_(Job.model.in_(names), *versions)


def lost_at(now: float | BindParameter[float]) -> ColumnElement[bool]:
    """Whether a job's worker has not shown itself for longer than its lease."""
    return and_(Job.status == "in_progress", Job.lease_until_s < now)


CLAIMABLE = select(
    exists().where(Job.deleted_s.is_(None), Job.status == "queued"),
    exists().where(Job.deleted_s.is_(None), lost_at(bindparam("now"))),
)
"""Whether a job waits, and whether one has lost its worker; takes no lock itself."""

_LIVE = and_(
    Job.id == bindparam("of_id"),
    Job.fence == bindparam("of_fence"),
    Job.status == "in_progress",
    Job.deleted_s.is_(None),
)
HELD = select(Job.sequence).where(_LIVE)
"""The job of a lease, as long as that is live."""

RENEW = update(Job).where(_LIVE).values(lease_until_s=bindparam("until_s")).returning(Job.id)
"""The lease for longer, as long as it is live."""

PROGRESS = RENEW.where(Job.progress < bindparam("percent")).values(progress=bindparam("percent"))
"""As `RENEW`, where the worker is farther than was known."""

INSERT = insert(Job).returning(Job.sequence)
_IS_UNFINISHED = or_(Job.status == "queued", Job.status == "in_progress")
UNFINISHED = select(func.count()).select_from(Job).where(_IS_UNFINISHED, Job.deleted_s.is_(None))
"""How many jobs wait or are being made."""

OUTLOOK = select(WAITING.where(Job.sequence < bindparam("sequence")).scalar_subquery(), RECENT_S.scalar_subquery())
"""How many jobs wait before one, and how long the last ones took."""
