"""The rows of the server's database."""

from typing import Any, Literal, TypeAlias

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JobStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed"]


class Base(DeclarativeBase):
    """The tables of the job database."""

    type_annotation_map = {dict[str, Any]: JSON}


PICTURE_PREFIX = "image_"
"""With what the id of a picture's job begins: only the request that waits for it knows of it."""


class Job(Base):
    """One video job. Times are Unix seconds; rows of deleted jobs stay as tombstones, so cursors keep working."""

    __tablename__ = "jobs"

    # BigInteger would not autoincrement on SQLite
    sequence: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    status: Mapped[str] = mapped_column(String(16))
    progress: Mapped[int] = mapped_column(Integer, default=0)
    model: Mapped[str] = mapped_column(String(256))
    prompt: Mapped[str] = mapped_column(Text)
    seconds: Mapped[str] = mapped_column(String(16))
    size: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    created_s: Mapped[float] = mapped_column(Float(53))
    started_s: Mapped[float | None] = mapped_column(Float(53))
    completed_s: Mapped[float | None] = mapped_column(Float(53))
    deleted_s: Mapped[float | None] = mapped_column(Float(53))

    batch_key: Mapped[str] = mapped_column(String(64), default="")
    """Jobs of equal keys can be made in one batch; an empty one is made alone."""

    trace: Mapped[str] = mapped_column(String(64), default="")
    """The span of the request, as a `traceparent` header has it."""

    # who works on it: a fence is never given twice, so a worker that lost its lease cannot write any more
    fence: Mapped[int] = mapped_column(Integer, default=0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    lease_until_s: Mapped[float | None] = mapped_column(Float(53))
    worker: Mapped[str | None] = mapped_column(String(128))

    # what came of it
    result: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)

    # the SDK sends a POST up to three times: these tell a repeated request from a new one
    owner: Mapped[str] = mapped_column(String(64), default="")
    idempotency_key: Mapped[str | None] = mapped_column(String(256))
    fingerprint: Mapped[str] = mapped_column(String(64), default="")

    __table_args__ = (
        Index("jobs_by_status", "status", "sequence", "deleted_s"),  # the last, so that a count reads no row
        Index("jobs_by_batch_key", "batch_key", "status", "sequence"),
        Index("jobs_by_fingerprint", "owner", "fingerprint", "created_s"),
        Index("jobs_by_idempotency_key", "owner", "idempotency_key", unique=True),
        {"sqlite_autoincrement": True},
    )

    @property
    def holds_uploads(self) -> bool:
        """Whether it is made from an upload, or from a video that held some of one when this was asked for."""
        given = self.settings.get("inputs", {}).values()
        return self.settings.get("holds_uploads", False) or any("upload" in each for each in given)


class Event(Base):
    """Something that happened to a job; the sequence is the order in which it did."""

    __tablename__ = "events"

    sequence: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str] = mapped_column(String(64))
    type: Mapped[str] = mapped_column(String(32))
    progress: Mapped[int] = mapped_column(Integer)
    created_s: Mapped[float] = mapped_column(Float(53))

    __table_args__ = (Index("events_by_job", "job_id", "sequence"), {"sqlite_autoincrement": True})


class WebhookEndpoint(Base):
    """An address that is told when videos end; its secrets sign what it is told, so they are kept as they are."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(256))
    url: Mapped[str] = mapped_column(Text)
    event_types: Mapped[list[str]] = mapped_column(JSON)
    secret: Mapped[str] = mapped_column(String(128))
    old_secret: Mapped[str | None] = mapped_column(String(128))
    old_secret_until_s: Mapped[float | None] = mapped_column(Float(53))
    created_s: Mapped[float] = mapped_column(Float(53))
    updated_s: Mapped[float | None] = mapped_column(Float(53))


class Delivery(Base):
    """One event on its way to one endpoint; written with the event, so that neither is without the other."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(String(64), index=True)
    type: Mapped[str] = mapped_column(String(32))
    job_id: Mapped[str] = mapped_column(String(64))
    created_s: Mapped[float] = mapped_column(Float(53))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_s: Mapped[float | None] = mapped_column(Float(53), index=True)


class Character(Base):
    """A named clip whose appearance later videos take up; `upload` names its frames among the uploads."""

    __tablename__ = "characters"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    owner: Mapped[str] = mapped_column(String(64), default="")
    created_s: Mapped[float] = mapped_column(Float(53))
    upload: Mapped[str] = mapped_column(String(64))
    num_frames: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)


class ApiKey(Base):
    """One API key: who calls with it, what it may do, how much of it. Of the secret only its hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    owner: Mapped[str] = mapped_column(String(64))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(16))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    quota: Mapped[dict[str, Any]]
    created_s: Mapped[float] = mapped_column(Float(53))
    expires_s: Mapped[float | None] = mapped_column(Float(53))
    revoked_s: Mapped[float | None] = mapped_column(Float(53))


class ModelVersion(Base):
    """A version of a served model that a request can name, as the registry lists it; in memory or not."""

    __tablename__ = "model_versions"

    id: Mapped[str] = mapped_column(String(512), primary_key=True)
    name: Mapped[str] = mapped_column(String(256), index=True)
    aliases: Mapped[list[str]] = mapped_column(JSON)
    created_s: Mapped[float] = mapped_column(Float(53))
    facts: Mapped[dict[str, Any]]


class ServedModel(Base):
    """What the replicas serve now; the ingress reads its limits here and so needs neither weights nor torch."""

    __tablename__ = "served_models"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]]
    loaded_s: Mapped[float] = mapped_column(Float(53))
    seen_s: Mapped[float] = mapped_column(Float(53))
