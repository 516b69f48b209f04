"""The durable table of what is served: the replicas write it, and each ingress reads what may be asked for."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, select, update

from serving.limits import ModelFacts
from serving.store.database import Database
from serving.store.tables import ModelVersion, ServedModel

FRESH_S = 0.25


class ServedTable:
    """The models that the replicas of one server hold."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, tuple[float, ModelFacts]] = {}

    def publish(self, name: str, *, version: str, facts: dict[str, Any]) -> None:
        """Tells every ingress which model version is served and what it can make."""
        now = self._clock()
        with self._database.write() as session:
            session.merge(ServedModel(name=name, version=version, facts=facts, loaded_s=now, seen_s=now))

    def publish_versions(self, name: str, versions: Sequence[ModelVersion]) -> None:
        """Tells every ingress which versions of a model a request can name, in place of those told before."""
        gone = delete(ModelVersion).where(
            ModelVersion.name == name, ModelVersion.id.not_in([version.id for version in versions])
        )
        with self._database.write() as session:
            session.execute(gone)
            for version in versions:
                session.merge(version)

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """The versions of a model that a request can name, the oldest first."""
        query = select(ModelVersion).where(ModelVersion.name == name)
        with self._database.read() as session:
            return session.scalars(query.order_by(ModelVersion.created_s, ModelVersion.id)).all()

    def version(self, name: str, reference: str) -> ModelVersion | None:
        """The version of that number, else the one that the alias names."""
        found = self.versions(name)
        by_id = {version.id: version for version in found}
        named = next((version for version in found if reference in version.aliases), None)
        return by_id.get(f"{name}@{reference}", named)

    def mark_seen(self, name: str) -> None:
        """Tells every ingress that a replica of the model lives."""
        with self._database.write() as session:
            session.execute(update(ServedModel).where(ServedModel.name == name).values(seen_s=self._clock()))

    def facts(self, name: str) -> ModelFacts | None:
        """What the served model of that name can make, as of a moment ago, or None before it has loaded.

        Each request for a video asks for it; what changed since is noticed when the video is made.
        """
        read_s, known = self._known.get(name, (-math.inf, None))
        if known is not None and 0 <= self._clock() - read_s < FRESH_S:
            return known
        with self._database.read() as session:
            found = session.scalar(select(ServedModel.facts).where(ServedModel.name == name))
        if found is None:
            return None
        facts = ModelFacts.model_validate(found)
        self._known[name] = (self._clock(), facts)
        return facts

    def get(self, name: str) -> ServedModel | None:
        """The model version that the replicas serve, or None before the first has loaded."""
        with self._database.read() as session:
            return session.get(ServedModel, name)
