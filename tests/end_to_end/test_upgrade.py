"""The database of an earlier release, upgraded while a worker trains: nobody notices."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.database.migrate import migrate
from tests.end_to_end.conftest import CONFIG, EPOCHS, running
from tests.process_tree import runs

pytestmark = pytest.mark.slow
LATER = (  # metrics that those releases did not keep
    "part1/min_energy_error",
    "part1/max_energy_error",
    "part1/mean_retrain_loss",
    "part2/efficiency",
)


def as_an_earlier_release_left_it(path: Path, revision: str) -> None:
    """Put what is in a database into one of an earlier schema, in its place."""
    old = path.with_suffix(".old")
    migrate(old, revision)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS now", (str(path),))
        tables = connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            " AND name != 'alembic_version'"
        ).fetchall()
        for (table,) in tables:
            columns = ", ".join(
                f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})")
            )
            connection.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}"
            )
        connection.commit()
        connection.execute("DETACH now")
        connection.execute("PRAGMA journal_mode = DELETE")
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.with_name("database.json").unlink()  # earlier releases know nothing of it
    old.replace(path)


def revision_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.mark.parametrize("revision", ["0001", "0003", "0004"])
def test_a_database_is_upgraded_under_a_live_worker(
    tmp_path: Path, undisturbed: list[dict[str, Any]], revision: str
) -> None:
    with running(tmp_path / "data", ORRERY_LEASE_TTL_S="60") as service:
        path = service.data / ".orrery" / "orrery.db"
        latest = revision_of(path)
        job_id = service.client.submit(CONFIG)["id"]
        waiting = service.client.submit(CONFIG | {"epochs": 1})["id"]
        service.wait_for_epoch(job_id, 5)
        training, server = service.training(), service.pid_of("server", "serve")
        os.kill(service.process.pid, signal.SIGSTOP)  # nobody starts it again yet
        os.kill(server, signal.SIGKILL)
        while runs(server):
            pass
        as_an_earlier_release_left_it(path, revision)
        assert revision_of(path) == revision
        os.kill(service.process.pid, signal.SIGCONT)
        service.client.wait_until_ready(60)
        assert revision_of(path) == latest
        job = service.client.wait(job_id)
        assert job["status"] == "succeeded", job
        assert job["attempt"] == 1
        assert not runs(training)
        found = service.series(job_id)
        assert len(found) == EPOCHS
        for row, expected in zip(found, undisturbed, strict=True):
            lost = {name for name in LATER if row[name] is None}  # of epochs before the upgrade
            assert row == expected | dict.fromkeys(lost)
        assert found[-1] == undisturbed[-1]
        assert service.client.wait(waiting)["status"] == "succeeded"
