"""Space of deleted rows goes back to the disk, some pages at a time."""

import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy import Connection

from server.database.engines import driver_of

INCREMENTAL = 2  # SQLite's auto_vacuum
MOST_PAGES = 500  # given back in one write: 2 MB
LEAST_PAGES = 250  # free ones, below which new rows will soon take them


def can_shrink(path: Path) -> None:
    """Lay a database file out so that it can shrink; one that was not is written anew, once.

    Nothing else may have it open.

    Raises:
        sqlite3.Error: there is no space for that.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            connection.execute("VACUUM")


def give_back(connection: Connection) -> bool:
    """Inside a write: give some free pages back; returns whether there are more."""
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    if free < LEAST_PAGES:
        return False
    driver = driver_of(connection)
    for _ in range(min(free, MOST_PAGES)):  # Python's driver runs it for one page, whatever it says
        driver.execute("PRAGMA incremental_vacuum(1)")
    return free > MOST_PAGES + LEAST_PAGES
