"""What a disk or a database that cannot write means for those who ask: 507 or 503, and why.

Every such failure passes through here: the answers, `/readyz`, and the line in the log, of which
there is one a minute however many requests fail.
"""

import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from server.database.presence import DatabaseTakenAway
from server.errors import StorageFull, StorageUnavailable
from server.log_format import once_a_minute

STORAGE_ERRORS = DBAPIError, sqlite3.Error, NoFreeConnection, DatabaseTakenAway
CAUSES = {  # by SQLite's primary result code
    sqlite3.SQLITE_IOERR: "the disk reports errors (EIO); look at it before anything else",
    sqlite3.SQLITE_READONLY: "the data folder cannot be written; is it mounted read-only?",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened; look at the data folder's permissions",
    sqlite3.SQLITE_PERM: "the database cannot be opened; look at the data folder's permissions",
    sqlite3.SQLITE_BUSY: "another program holds the database locked; end it",
    sqlite3.SQLITE_LOCKED: "another program holds the database locked; end it",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; stop the server and restore a backup",
    sqlite3.SQLITE_NOTADB: "the database is damaged; stop the server and restore a backup",
}


def trouble_of(error: BaseException) -> StorageFull | StorageUnavailable | None:
    """What a failure of the storage is to a client; None where it is something else."""
    if isinstance(error, DatabaseTakenAway):
        return StorageUnavailable(f"the database was taken away: {error}")
    if isinstance(error, NoFreeConnection):
        return StorageUnavailable("too many wait for the database at once")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return None
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the primary part of an extended one
    if code == sqlite3.SQLITE_FULL:
        return StorageFull()
    return StorageUnavailable(CAUSES[code]) if code in CAUSES else None


def log_failure(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Tell the log of a failure: of the storage in a line, of anything else with a traceback."""
    trouble = trouble_of(error)
    if trouble is None:
        logger.error("%s", what, exc_info=error)
    else:
        logger.error("%s: %s", what, trouble.detail, extra=once_a_minute(trouble.detail))


@contextmanager
def failures_told(logger: logging.Logger, what: str) -> Generator[None]:
    """For a loop that must go on: what fails inside is told to the log, and no more."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the next turn tries again
        log_failure(logger, what, error)
