"""The server's database, opened with the durability that a job id promises."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select, create_engine, event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session

from serving.store.driver import execute, first_row_alone
from serving.store.tables import Base

_CREATE_LOCK = 0x5C1_0011  # any fixed number: two servers starting at once must not both create the tables

LONGEST_WAIT_S = 30
"""For a lock that another holds. On PostgreSQL a process that stops in a transaction loses it after as long."""

_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN", "none": ""}  # one query alone needs none
_POSTGRESQL_OPTIONS = f"-c idle_in_transaction_session_timeout={LONGEST_WAIT_S}s"


class Database:
    """One database and its sessions; safe from many threads, processes and machines at once."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self.is_postgresql = self._engine.dialect.name == "postgresql"
        self.reads_at_once = not self.is_postgresql and bool(self._engine.url.database)
        """Whether a small query may run in an event loop: SQLite's file is near, and its readers wait for nobody."""

        # connections of their own: the others may all be waiting to write (a database in memory has one alone)
        reading = open_engine(url) if self.reads_at_once else self._engine
        self._reader = reading.execution_options(transaction="read")
        self._single = reading.execution_options(transaction="none")

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; on SQLite there is one at a time."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """As `write`, for plain rows."""
        with self._engine.begin() as connection:
            yield connection

    def first(self, query: Select[Any], values: Mapping[str, Any] | None = None) -> Any:
        """The first row of plain columns, or None; the query is as `first_row` wants it."""
        return first_row_alone(self._single, query, values)

    def close(self) -> None:
        """Closes the connections."""
        self._reader.dispose()
        self._engine.dispose()


def open_engine(url: str) -> Engine:
    """An engine whose commits survive a power cut; its tables exist.

    On SQLite each transaction begins as a writer unless the connection's option `transaction` says otherwise: a reader
    that turns writer half-way fails at once when another writes, and no timeout helps.
    """
    database = make_url(url)
    if database.get_backend_name() != "sqlite":
        engine = create_engine(database, pool_pre_ping=True, connect_args={"options": _POSTGRESQL_OPTIONS})
    else:
        if database.database:
            Path(database.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(database, connect_args={"timeout": LONGEST_WAIT_S, "check_same_thread": False})
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
    begin = _BEGIN[connection.get_execution_options().get("transaction", "write")]
    if begin:
        execute(connection.connection.driver_connection, begin)
