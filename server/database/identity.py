"""Which database belongs to a folder: it has an identity, and its folder knows that.

The row `identity` and the file beside the database hold the same id, and a mark that grows while
things are written: first in the database, then in the file. So a database with a smaller mark than
its folder's is an older copy, whose jobs of the time between nobody would miss.
"""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from nbody.durable_file import sync_folder, write_durably
from server.database.engines import check_integrity
from server.database.ids import new_id
from server.database.tables import identity

NAME = "database.json"  # beside the database
OPEN = "open"  # likewise
HELP = "restore a backup (`orrery restore FILE`), or begin with none (`orrery restore --empty`)"


class Identity(NamedTuple):
    """A database, and how far it has come."""

    id: str
    mark: int


class WrongDatabase(OSError):
    """The database is not the one that its folder had: missing, empty, older, or another's."""


def expect(database: Path, mark: Path | None = None) -> None:
    """Look whether the database of a folder is the one that it had; a new folder takes any.

    Args:
        mark: a file outside the server's own folder that is there once a server began here.

    Raises:
        WrongDatabase, DatabaseDamaged
    """
    known = of_folder(database)
    is_there = database.exists() and database.stat().st_size > 0
    wal = database.with_name(f"{database.name}-wal")
    # Before it is looked into: SQLite makes a log where there is none.
    has_lost_its_log = database.with_name(OPEN).exists() and not wal.exists()
    had_one = known is not None or (mark is not None and mark.exists())
    if not is_there and (had_one or (wal.exists() and wal.stat().st_size > 0)):
        what = "is empty" if database.exists() else "is gone"
        raise WrongDatabase(f"the database {database} {what}; put it back, or {HELP}")
    check_integrity(database)
    if known is None or not is_there:
        return
    found = of_database(database)
    if not has_lost_its_log and (found is None or found.id != known.id):
        raise WrongDatabase(
            f"the database {database} belongs to another folder; put this folder's back, or {HELP}"
        )
    if has_lost_its_log or (found is not None and found.mark < known.mark):
        raise WrongDatabase(
            f"the database {database} is an older copy, or its -wal file is lost: what was written "
            f"since is not in it. Put the newer one back with its -wal file; or take it as it is "
            f"(`orrery restore {database}`), or {HELP}"
        )


def mark_open(database: Path, *, is_open: bool) -> None:
    """A server has it open: until it is closed in peace, there is a write-ahead log beside it."""
    path = database.with_name(OPEN)
    if is_open:
        path.touch(mode=0o600)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def of_folder(database: Path) -> Identity | None:
    """What the folder of a database knows of it; None where it knows nothing."""
    with contextlib.suppress(FileNotFoundError):
        text = database.with_name(NAME).read_text(encoding="utf-8")
        try:
            return Identity(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise WrongDatabase(f"{database.with_name(NAME)} cannot be read; {HELP}") from error
    return None


def of_database(database: Path) -> Identity | None:
    """The identity in a database file; None where it has none, or is none."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            row = connection.execute("SELECT id, mark FROM identity").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else Identity(*row)


def advance(connection: Connection) -> Identity:
    """Inside a write: another mark; a database without an identity gets one."""
    grown = update(identity).values(mark=identity.c.mark + 1)
    row = connection.execute(grown.returning(identity.c.id, identity.c.mark)).first()
    if row is None:
        connection.execute(insert(identity).values(id=new_id("db"), mark=1))
        row = connection.execute(select(identity.c.id, identity.c.mark)).one()
    return Identity(*row)


def keep(database: Path, known: Identity) -> None:
    """Let the folder of a database know it. After the write that made the mark is durable."""
    text = json.dumps(known._asdict())
    write_durably(database.with_name(NAME), lambda path: path.write_text(text, encoding="utf-8"))
