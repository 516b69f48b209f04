"""The rows of the job database, and the engine that opens it with the durability that a job id promises."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import JSON, BigInteger, Engine, Float, Index, Integer, String, Text, create_engine, event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JobStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed"]

_CREATE_LOCK = 0x5C1_0011  # any fixed number: two servers starting at once must not both create the tables


class Base(DeclarativeBase):
    """The tables of the job database."""

    type_annotation_map = {dict[str, Any]: JSON}


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
        Index("jobs_by_status", "status", "sequence"),
        Index("jobs_by_fingerprint", "owner", "fingerprint", "created_s"),
        Index("jobs_by_idempotency_key", "owner", "idempotency_key", unique=True),
        {"sqlite_autoincrement": True},
    )


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


class ServedModel(Base):
    """What the replicas serve now; the ingress reads its limits here and so needs neither weights nor torch."""

    __tablename__ = "served_models"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]]
    loaded_s: Mapped[float] = mapped_column(Float(53))
    seen_s: Mapped[float] = mapped_column(Float(53))


def open_database(url: str) -> Engine:
    """An engine whose commits survive a power cut; its tables exist.

    On SQLite each transaction begins as a writer unless the connection has the option `read_only`: a reader that
    turns writer half-way fails at once when another writes, and no timeout helps.
    """
    database = make_url(url)
    if database.get_backend_name() != "sqlite":
        engine = create_engine(database, pool_pre_ping=True)
    else:
        if database.database:
            Path(database.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(database, connect_args={"timeout": 30, "check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
        Base.metadata.create_all(connection)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would otherwise begin late, and only for some statements
    # synchronous=NORMAL is faster but may lose the last commits when the power goes
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
