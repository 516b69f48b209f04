"""What happened to jobs, in order: written in the transaction that made it happen, read by streams and webhooks."""

import secrets
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from sqlalchemy import Connection, insert, select
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.driver import first_row
from serving.store.tables import PICTURE_PREFIX, Delivery, Event, WebhookEndpoint

EventType: TypeAlias = Literal[
    "video.queued", "video.in_progress", "video.progress", "video.completed", "video.failed", "video.deleted"
]
Announced: TypeAlias = Literal["video.completed", "video.failed"]
ANNOUNCED: tuple[Announced, ...] = get_args(Announced)
_INSERT = insert(Event)
LAST: tuple[EventType, ...] = ("video.completed", "video.failed", "video.deleted")


def record(session: Session, job_id: str, owner: str, happened: EventType, *, now: float, progress: int = 0) -> None:
    """Adds an event to a transaction and, where the owner wants to be told of it, its deliveries."""
    add_event(session.connection(), job_id, owner, happened, now=now, progress=progress)
    if happened not in ANNOUNCED or job_id.startswith(PICTURE_PREFIX):
        return
    for endpoint in session.scalars(select(WebhookEndpoint).where(WebhookEndpoint.owner == owner)):
        if happened in endpoint.event_types:
            session.add(delivery(endpoint, happened, job_id, now))


def add_event(
    connection: Connection, job_id: str, owner: str, happened: EventType, *, now: float, progress: int = 0
) -> None:
    """Adds an event of which nobody has to be told."""
    values = {"job_id": job_id, "owner": owner, "type": happened, "progress": progress, "created_s": now}
    first_row(connection, _INSERT, values)


def delivery(endpoint: WebhookEndpoint, happened: Announced, job_id: str, now: float) -> Delivery:
    """An event on its way to an endpoint, due at once."""
    return Delivery(
        id=f"evt_{secrets.token_hex(16)}",
        endpoint_id=endpoint.id,
        type=happened,
        job_id=job_id,
        created_s=now,
        next_try_s=now,
    )


class EventTable:
    """The events of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, job_id: str, sequence: int = 0) -> Sequence[Event]:
        """What happened to a job since the event of that sequence, in order."""
        query = select(Event).where(Event.job_id == job_id, Event.sequence > sequence).order_by(Event.sequence)
        with self._database.read() as session:
            return session.scalars(query).all()
