"""How the database file is opened: one connection that writes, and readers that cannot."""

import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

READERS = 4
BUSY_TIMEOUT_MS = 5000
SYNCHRONOUS = "FULL"  # a commit is on the disk before it is answered


class DatabaseDamaged(Exception):
    """The database file fails its integrity check."""

    def __init__(self, path: Path, finding: str) -> None:
        super().__init__(
            f"the database {path} is damaged ({finding}); restore a backup: `orrery restore FILE`"
        )


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what runs so often that SQLAlchemy's time would show."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def check_integrity(path: Path) -> None:
    """Look whether a database file is whole; one that is not there yet is.

    Raises:
        DatabaseDamaged
    """
    if not path.exists():
        return
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise DatabaseDamaged(path, str(error)) from error
    if finding != "ok":
        raise DatabaseDamaged(path, str(finding))


def write_engine(path: Path) -> Engine:
    """An engine whose one connection writes. Nothing else may write to the file meanwhile."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # transactions are begun below, not by the driver
        with contextlib.closing(connection.cursor()) as cursor:
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={SYNCHRONOUS}",
                f"busy_timeout={BUSY_TIMEOUT_MS}",
                "foreign_keys=ON",
                "trusted_schema=OFF",
            ):
                cursor.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def read_connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "query_only=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def read_engine(path: Path) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: read_connection(path),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=READERS,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN")

    return engine
