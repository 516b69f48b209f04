"""Small statements given to SQLite's driver: SQLAlchemy takes ten times as long as they do, and some run all the time.

After each denoising step one asks whether the job is still there, and each new job waits for a few.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

Values: TypeAlias = Mapping[str, Any]
Statement: TypeAlias = Select[Any] | Insert | Update


def first_row(connection: Connection, statement: Statement, values: Values | None = None) -> Any:
    """The first row that a statement gives, or None; made once, with no IN, of columns that need no conversion."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return execute(driver, *_sqlite_text(statement), values or {})
    result = connection.execute(statement, values)
    return result.first() if result.returns_rows else None


def first_row_alone(engine: Engine, query: Select[Any], values: Values | None = None) -> Any:
    """As `first_row`, outside of any transaction."""
    if engine.dialect.name != "sqlite":
        with engine.connect() as connection:
            return first_row(connection, query, values)
    with closing(engine.raw_connection()) as connection:
        return execute(connection.driver_connection, *_sqlite_text(query), values or {})


def execute(driver: sqlite3.Connection | Any, text: str, *values: Values) -> Any:
    """The first row that a statement gives, or None.

    Raises:
        DBAPIError: of the kind that SQLAlchemy raises for it.
    """
    bound = {name: value for each in values for name, value in each.items()}
    try:
        return driver.execute(text, bound).fetchone()
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, bound, error, sqlite3.Error) from error


@cache
def _sqlite_text(statement: Statement) -> tuple[str, Values]:
    """A statement as SQLite takes it, and the values that it names itself."""
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    return str(compiled), compiled.params or {}
