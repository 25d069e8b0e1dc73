"""Backups of a running service, and putting them back, whatever has become of the database."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from server.database.backup import NoBackup, backup, empty, restore
from server.database.folder_lock import FolderInUse
from server.database.identity import WrongDatabase, expect
from tests.server.conftest import OrreryServer, epoch_metrics


@pytest.mark.slow
def test_a_backup_of_a_running_service_is_put_back(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    with OrreryServer(data) as server:
        job, assignment = server.start(name="kept")
        server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
        database = server.settings.database_path
        backup(database, copy)
        later = server.submit(name="after the backup")
        with pytest.raises(FolderInUse, match="end that first"):
            restore(copy, database)
        assert server.job(later["id"])["name"] == "after the backup"
    kept = restore(copy, database)
    assert kept is not None
    assert (kept / database.name).is_file()
    with OrreryServer(data) as server:
        found = server.job(job["id"])
        assert (found["name"], found["progress"]["epochs_done"]) == ("kept", 1)
        assert server.admin.get(f"/v1/jobs/{later['id']}").status_code == 404


@pytest.mark.slow
def test_a_backup_goes_where_there_was_no_database(tmp_path: Path) -> None:
    with OrreryServer(tmp_path / "a") as server:
        job = server.submit()
        copy = backup(server.settings.database_path, tmp_path / "copy.db")
    elsewhere = tmp_path / "b"
    assert restore(copy, elsewhere / ".orrery" / "orrery.db") is None
    with OrreryServer(elsewhere) as server:
        assert server.job(job["id"])["status"] == "queued"


def test_what_cannot_work_says_why_and_touches_nothing(tmp_path: Path) -> None:
    database = tmp_path / "orrery.db"
    with pytest.raises(FileNotFoundError, match="no database"):
        backup(database, tmp_path / "copy.db")
    with OrreryServer(tmp_path) as server:
        database = server.settings.database_path
        (tmp_path / "there.db").write_text("mine")
        with pytest.raises(FileExistsError, match="another file"):
            backup(database, tmp_path / "there.db")
    before = database.read_bytes()
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "none.db", database)
    with pytest.raises(NoBackup, match="nothing was changed"):
        restore(tmp_path / "there.db", database)
    with pytest.raises(FileNotFoundError, match="no folder"):
        backup(database, tmp_path / "nowhere" / "copy.db")
    assert database.read_bytes() == before
    assert (tmp_path / "there.db").read_text() == "mine"


def _zeroed_pages(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(3 * 4096))


def _no_header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"not a database at all")


def _truncated(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2 + 100)


def _without(*ends: str) -> Callable[[Path], None]:
    def damage(database: Path) -> None:
        for end in ends:
            database.with_name(database.name + end).unlink()

    return damage


def _empty_file(database: Path) -> None:
    database.write_bytes(b"")


def _nothing(database: Path) -> None:
    del database


@pytest.mark.slow
@pytest.mark.parametrize("with_log", [True, False], ids=["wal", "no-wal"])
@pytest.mark.parametrize(
    "damage",
    [
        *(_zeroed_pages, _no_header, _truncated, _empty_file, _nothing),
        *(_without(""), _without("-wal"), _without("-shm"), _without("", "-shm")),
    ],
    ids=["pages", "header", "truncated", "empty", "none", "deleted", "wal", "shm", "wal alone"],
)
def test_a_backup_is_put_back_over_every_damage(
    damage: Callable[[Path], None], with_log: bool, tmp_path: Path
) -> None:
    copy, killed = tmp_path / "copy.db", tmp_path / "killed"
    with OrreryServer(tmp_path / "data") as server:
        job = server.submit(name="in the backup")
        source = backup(server.settings.database_path, copy)
        assert source.stat().st_mode & 0o077 == 0
        server.submit(name="later")
        shutil.copytree(tmp_path / "data", killed)  # as a kill leaves it
    database = killed / ".orrery" / "orrery.db"
    if not with_log:
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for end in ("-wal", "-shm"):
            shutil.copyfile(database, database.with_name(database.name + end))  # nonsense
    damage(database)
    restore(copy, database)
    assert database.stat().st_mode & 0o077 == 0
    with OrreryServer(killed) as server:
        assert [found["name"] for found in server.admin.get("/v1/jobs").json()["data"]] == [
            "in the backup"
        ]
        assert server.job(job["id"])["status"] == "queued"
        server.submit()
    check = sqlite3.connect(database)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


@pytest.mark.slow
def test_the_old_database_is_not_taken_for_the_restored_one(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        server.submit()
        database = server.settings.database_path
        copy = backup(database, tmp_path / "copy.db")
    kept = restore(copy, database)
    assert kept is not None
    shutil.copyfile(kept / database.name, database)
    with pytest.raises(WrongDatabase, match="another folder"):
        expect(database)
    restore(kept / database.name, database)
    expect(database)


@pytest.mark.slow
def test_a_folder_begins_anew_where_that_is_asked_for(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        job = server.submit()
        database = server.settings.database_path
    kept = empty(database, server.settings.folder_mark_path)
    assert kept is not None
    with OrreryServer(tmp_path) as server:
        assert server.admin.get(f"/v1/jobs/{job['id']}").status_code == 404
