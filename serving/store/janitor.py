"""Clears away what nobody can ask for any more: expired videos and characters, files without a job, unused uploads.

Jobs that nobody will come for, since their model is not served any more, end failed here.

Safe beside servers at work, any number at once: what is young stays, whatever it is.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import and_, delete, not_, or_, select, update

from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.events import record
from serving.store.jobs import JobTable
from serving.store.statements import asks_for
from serving.store.tables import Character, Delivery, Event, Job, ModelVersion, ServedModel

logger = logging.getLogger(__name__)

YOUNG_S = 3600.0  # files appear before the row that names them


UNSERVED_S = 3600.0  # how long another server may take to come back with a model that this one does not serve


class Attempt(NamedTuple):
    """The last attempt at a job, and how that stands."""

    fence: int
    status: str


class Swept(NamedTuple):
    """What a sweep cleared away."""

    videos: int = 0
    orphans: int = 0
    folders: int = 0
    uploads: int = 0
    characters: int = 0


class Janitor:
    """Sweeps the files and tables of one server."""

    def __init__(self, config: ServeConfig, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._database = database
        self._jobs = JobTable(database, clock=clock)
        self._clock = clock

    def tick(self) -> bool:
        """One sweep; there is never more to do at once."""
        swept = self.sweep()
        if any(swept):
            logger.info("cleared away %s", swept)
        return False

    def sweep(self) -> Swept:
        """Deletes what has expired, then what belongs to nothing."""
        expired = self._expired()
        for job_id in expired:
            self._jobs.delete(job_id)
        num_orphans = self._fail_orphans()
        self._forget_events()
        num_characters = self._forget_characters()
        live, used = self._live()
        root = self._config.storage
        kept = {self._config.uploads.name, self._config.identity.name}
        folders = [path for path in self._old(root) if path.is_dir() and path.name not in live.keys() | kept]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        left = [
            path for job_id, attempt in live.items() for path in self._old(root / job_id) if is_left(path.name, attempt)
        ]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        num_uploads = 0
        for path in self._old(self._config.uploads):  # one by one: one that is touched now is in use again
            if path.stem not in used:
                path.unlink(missing_ok=True)
                num_uploads += 1
        return Swept(len(expired), num_orphans, len(folders) + len(left), num_uploads, num_characters)

    def _expired(self) -> list[str]:
        since = self._clock() - self._config.retention_s
        query = select(Job.id).where(Job.deleted_s.is_(None), Job.completed_s < since)
        with self._database.read() as session:
            return list(session.scalars(query))

    def _fail_orphans(self) -> int:
        """Ends jobs of models that are neither in this server's settings nor held by any other's replica."""
        now = self._clock()
        since = now - UNSERVED_S
        held = select(ServedModel.name).where(ServedModel.seen_s >= since)
        waits = or_(Job.status == "queued", and_(Job.status == "in_progress", Job.lease_until_s < since))
        versions = select(ModelVersion.id).where(ModelVersion.name.in_(held))
        is_held = or_(asks_for(self._config.model_names), Job.model.in_(held), Job.model.in_(versions))
        is_orphan = and_(not_(is_held), Job.created_s < since)
        error = {"error_code": "model_not_found", "error_message": "The model of this video is not served any more."}
        ended = {"status": "failed", "completed_s": now, "lease_until_s": None} | error
        orphans = update(Job).where(waits, is_orphan, Job.deleted_s.is_(None)).values(ended).returning(Job)
        with self._database.write() as session:
            failed = session.scalars(orphans).all()
            for job in failed:
                record(session, job.id, job.owner, "video.failed", now=now, progress=job.progress)
        return len(failed)

    def _forget_events(self) -> None:
        since = self._clock() - self._config.retention_s
        with self._database.write() as session:
            session.execute(delete(Event).where(Event.created_s < since))
            session.execute(delete(Delivery).where(Delivery.next_try_s.is_(None), Delivery.created_s < since))

    def _forget_characters(self) -> int:
        since = self._clock() - self._config.retention_s
        expired = delete(Character).where(Character.created_s < since).returning(Character.id)
        with self._database.write() as session:
            return len(session.scalars(expired).all())

    def _live(self) -> tuple[dict[str, Attempt], set[str]]:
        """The jobs that exist, each with its last attempt; the uploads that they or characters use."""
        with self._database.read() as session:
            columns = (Job.id, Job.status, Job.fence, Job.settings)
            jobs = session.execute(select(*columns).where(Job.deleted_s.is_(None))).all()
            characters = session.scalars(select(Character.upload)).all()
        inputs = (given for *_, settings in jobs for given in settings.get("inputs", {}).values())
        live = {job_id: Attempt(fence, status) for job_id, status, fence, _ in jobs}
        return live, {given["upload"] for given in inputs if "upload" in given} | {*characters}

    def _old(self, folder: Path) -> Iterator[Path]:
        """What lies in a folder and was not touched lately."""
        newest = self._clock() - YOUNG_S
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                is_old = path.stat().st_mtime < newest
            except FileNotFoundError:  # another janitor was faster
                continue
            if is_old:
                yield path


def is_left(name: str, last: Attempt) -> bool:
    """Whether something in a job's folder is of no use: any draft but that under way, any result but the job's own.

    A draft may look old while it is written: a folder keeps the time of its first file, which grows for hours.
    """
    if last.status == "completed":
        return name != str(last.fence)
    is_under_way = last.status != "failed" and name.startswith(f".{last.fence}.")
    return name.startswith(".") and not is_under_way
