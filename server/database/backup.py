"""Copies of the database, made while it runs, and put back while it does not."""

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

from server.database.engines import DatabaseDamaged, check_integrity


class DatabaseInUse(OSError):
    """A server runs on the database."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in use; stop the server first")


class NoBackup(OSError):
    """A file is not a backup, or is damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a whole backup; nothing was changed")


def backup(database: Path, target: Path) -> Path:
    """Write a copy that is consistent, whatever the server does meanwhile; returns its path.

    Raises:
        FileNotFoundError: there is no database, or no such folder.
        FileExistsError: there is such a file. OSError: it cannot be written. DatabaseDamaged
    """
    if not database.is_file():
        raise FileNotFoundError(f"there is no database at {database}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    if target.exists():
        raise FileExistsError(f"{target} exists; name another file")
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        check_integrity(partial)
        return partial.replace(target)
    except sqlite3.OperationalError as error:
        raise OSError(f"cannot write {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def restore(source: Path, database: Path) -> Path | None:
    """Put a copy in the place of the database; returns where the old one is kept.

    Raises:
        FileNotFoundError, NoBackup, DatabaseInUse
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        check_integrity(source)
    except DatabaseDamaged as error:
        raise NoBackup(source) from error
    with contextlib.closing(sqlite3.connect(source)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if not {"jobs", "alembic_version"} <= tables:
        raise NoBackup(source)
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept: Path | None = None
    if database.exists():
        _settle(database)
        kept = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
        os.link(database, kept)
    partial = database.with_name(f".{database.name}.part")
    shutil.copyfile(source, partial)
    partial.replace(database)
    return kept


def _settle(database: Path) -> None:
    """Move what is in the write-ahead log into the database, alone with it."""
    with contextlib.closing(sqlite3.connect(database, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.commit()
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError:
            raise DatabaseInUse(database) from None
