"""Copies of the database, made while it runs, and put back while it does not."""

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from nbody.durable_file import make_folder_durably, sync_folder
from server.database import identity
from server.database.engines import check_integrity
from server.database.folder_lock import FolderLock
from server.database.identity import Identity
from server.database.ids import new_id

FILES = ("", "-wal", "-shm", "-journal")  # of one database


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
    partial.touch(mode=0o600)  # it has the hashes of tokens, and everybody's jobs
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        check_integrity(partial)
        return partial.replace(target)
    except sqlite3.OperationalError as error:
        raise OSError(f"cannot write {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def restore(
    source: Path, database: Path, bring: Callable[[], object] = lambda: None
) -> Path | None:
    """Put a copy in the place of the database, whatever has become of that.

    The copy is looked through first; then what lies there is moved aside, with its write-ahead log.
    From then on it is another database to its folder: the one before is not taken for it.

    Args:
        bring: called before that, when the copy is known to be whole and the folder is ours alone:
            brings the files that the copy lists.

    Returns:
        The folder in which the old files are; None where there were none.

    Raises:
        FileNotFoundError, NoBackup, FolderInUse
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    make_folder_durably(database.parent, 0o700)
    with FolderLock(database.parent, "`orrery restore`"):
        part = database.with_name(f".{database.name}.part")
        try:
            known = _whole_copy(source, part)
            bring()
            kept = _move_aside(database)
            part.replace(database)
            sync_folder(database.parent)
        finally:
            _remove(part)
        identity.mark_open(database, is_open=False)
        if known is None:
            database.with_name(identity.NAME).unlink(missing_ok=True)
        else:
            identity.keep(database, known)
        return kept


def empty(database: Path, mark: Path) -> Path | None:
    """Move the database aside, so that the next start makes a new one; returns where it is.

    Args:
        mark: of the data folder, which is another one from then on.

    Raises:
        FolderInUse
    """
    make_folder_durably(database.parent, 0o700)
    with FolderLock(database.parent, "`orrery restore`"):
        kept = _move_aside(database)
        database.with_name(identity.NAME).unlink(missing_ok=True)
        identity.mark_open(database, is_open=False)
        mark.unlink(missing_ok=True)
        return kept


def _whole_copy(source: Path, part: Path) -> Identity | None:
    """Copy a database with what is in its write-ahead log; returns the identity that it now has.

    A log that lies beside it but does not belong to it makes it malformed: then it is left out.
    """
    for ends in ("", "-wal"), ("",):
        _remove(part)
        part.touch(mode=0o600)
        for end in ends:
            beside = source.with_name(source.name + end)
            if beside.is_file():
                shutil.copyfile(beside, part.with_name(part.name + end))
        with contextlib.suppress(sqlite3.DatabaseError), closing(sqlite3.connect(part)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")
            tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master")}
            findings = copy.execute("PRAGMA integrity_check(1)").fetchone()
            if findings != ("ok",) or not {"jobs", "alembic_version"} <= tables:
                continue
            known = None
            if "identity" in tables:
                known = Identity(new_id("db"), 1)
                copy.execute("UPDATE identity SET id = ?, mark = ?", known)
                copy.commit()
            return known
    raise NoBackup(source)


def _move_aside(database: Path) -> Path | None:
    """Whatever is left of a database, into a folder of its own."""
    found = [database.with_name(database.name + end) for end in FILES]
    found = [path for path in found if path.exists()]
    if not found:
        return None
    prefix = f"before-{time.strftime('%Y%m%dT%H%M%S')}-"
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=database.parent))
    for path in found:
        path.rename(folder / path.name)
    return folder


def _remove(database: Path) -> None:
    for end in FILES:
        database.with_name(database.name + end).unlink(missing_ok=True)
