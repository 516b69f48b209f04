"""Troubles that are nobody's fault and pass: no space left, a database or a registry that does not answer."""

import logging
import sqlite3
from collections.abc import Callable

import psycopg
from sqlalchemy import exc
from sqlalchemy.exc import DBAPIError

from model.errors import RegistryAwayError, is_disk_full

logger = logging.getLogger(__name__)

NO_SPACE = "insufficient_storage"
_SQLITE_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE}
_POSTGRESQL_DISK_FULL = "53100"
_SQLITE_TAKEN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_POSTGRESQL_AWAY = ("08", "57P", "25P03", "53300", "55P03", "40P01")
"""No connection, shut down, ended while idle in a transaction, too many connections, a lock too late, a deadlock."""


def is_full(error: BaseException) -> bool:
    """Whether the disk, or the quota on it, is used up."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_full(error.orig)
    if is_disk_full(error):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code in _SQLITE_CODES or getattr(error, "sqlstate", None) == _POSTGRESQL_DISK_FULL


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the database or the registry did not answer: it is held for too long, overwhelmed, or away."""
    if isinstance(error, exc.TimeoutError | RegistryAwayError):
        return True
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    if error.connection_invalidated:
        return True
    code, state = (getattr(error.orig, name, None) for name in ("sqlite_errorcode", "sqlstate"))
    if isinstance(error.orig, psycopg.OperationalError) and state is None:  # it could not be connected to
        return True
    return (code is not None and code & 0xFF in _SQLITE_TAKEN) or (state or "").startswith(_POSTGRESQL_AWAY)


def passes(error: BaseException) -> bool:
    """Whether the same work may well succeed later."""
    return is_full(error) or is_out_of_reach(error)


def unless_in_trouble(work: Callable[[], bool | None]) -> bool:
    """Whether there was work; False when its outcome could not be written down: no space, or no answer.

    Whoever works lives on: the job's lease runs out, and it is made again when the trouble has passed.
    """
    try:
        return bool(work())
    except Exception as error:
        if not passes(error):
            raise
        logger.exception("the job table cannot be written, or the registry does not answer, at the moment")
        return False
