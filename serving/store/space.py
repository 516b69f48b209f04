"""Whether an error means that there is no space left, wherever it was noticed: a file, SQLite, PostgreSQL."""

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError

from model.errors import DiskFullError

NO_SPACE = "insufficient_storage"
_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_SQLITE_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE}
_POSTGRESQL_DISK_FULL = "53100"


def is_full(error: BaseException) -> bool:
    """Whether the disk, or the quota on it, is used up."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_full(error.orig)
    if isinstance(error, DiskFullError):
        return True
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    code = getattr(error, "sqlite_errorcode", None)
    return code in _SQLITE_CODES or getattr(error, "sqlstate", None) == _POSTGRESQL_DISK_FULL
