"""The durable table of what is served: the replicas write it, and each ingress reads what may be asked for."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import update

from serving.store.database import Database
from serving.store.tables import ServedModel


class ServedTable:
    """The models that the replicas of one server hold."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def publish(self, name: str, *, version: str, facts: dict[str, Any]) -> None:
        """Tells every ingress which model version is served and what it can make."""
        now = self._clock()
        with self._database.write() as session:
            session.merge(ServedModel(name=name, version=version, facts=facts, loaded_s=now, seen_s=now))

    def mark_seen(self, name: str) -> None:
        """Tells every ingress that a replica of the model lives."""
        with self._database.write() as session:
            session.execute(update(ServedModel).where(ServedModel.name == name).values(seen_s=self._clock()))

    def get(self, name: str) -> ServedModel | None:
        """The model version that the replicas serve, or None before the first has loaded."""
        with self._database.read() as session:
            return session.get(ServedModel, name)
