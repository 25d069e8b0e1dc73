"""Which database a folder takes, and what is done when it is taken away."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from server.database.backup import backup, empty, restore
from server.database.engines import DatabaseDamaged
from server.database.identity import WrongDatabase, expect
from server.database.migrate import migrate
from server.service import prepare
from server.settings import ServerSettings
from tests.server.conftest import OrreryServer, assert_problem


def _jobs(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        (found,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    connection.close()
    return found


@pytest.fixture
def used(tmp_path: Path) -> ServerSettings:
    """Of a folder whose server wrote something and ended."""
    with OrreryServer(tmp_path / "data") as server:
        server.submit()
    return server.settings


def test_a_folder_goes_on_with_its_own_database(used: ServerSettings) -> None:
    with OrreryServer(used.data) as server:
        assert len(server.admin.get("/v1/jobs").json()["data"]) == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "is gone"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_a_database_that_vanished_is_not_made_anew(
    used: ServerSettings, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(used.database_path)
    with pytest.raises(WrongDatabase, match=rf"{told}.*orrery restore"):
        prepare(used)


def test_a_log_without_its_database_is_refused_in_folders_of_before_too(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    settings.state_folder.mkdir()
    settings.database_path.with_name("orrery.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(WrongDatabase, match="is gone"):
        prepare(settings)


@pytest.mark.slow
def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with OrreryServer(tmp_path / "data") as server:
        server.submit()
        server.call(server.service._mark())
        database = server.settings.database_path
        server.write(lambda c: c.exec_driver_sql("SELECT 1"))
        shutil.copyfile(database, copy)
        shutil.copyfile(database.with_name("orrery.db-wal"), tmp_path / "copy.db-wal")
        server.submit()
    shutil.copyfile(copy, database)
    shutil.copyfile(tmp_path / "copy.db-wal", database.with_name("orrery.db-wal"))
    with pytest.raises(WrongDatabase, match="older copy"):
        prepare(server.settings)
    restore(database, database)  # taken as it is, on purpose
    prepare(server.settings).release()
    assert _jobs(database) == 1


@pytest.mark.slow
def test_a_foreign_database_is_refused(used: ServerSettings, tmp_path: Path) -> None:
    with OrreryServer(tmp_path / "other") as other:
        pass
    shutil.copyfile(other.settings.database_path, used.database_path)
    with pytest.raises(WrongDatabase, match="another folder"):
        prepare(used)


def test_a_database_of_before_gets_an_identity(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    migrate(settings.database_path, "0005")
    with OrreryServer(tmp_path) as server:
        server.submit()
    settings.database_path.unlink()
    with pytest.raises(WrongDatabase, match="is gone"):
        prepare(settings)


def test_damage_is_told_as_damage(used: ServerSettings) -> None:
    used.database_path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(DatabaseDamaged, match="orrery restore"):
        prepare(used)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_nothing_is_acknowledged_once_a_file_is_taken_away(tmp_path: Path, end: str) -> None:
    with OrreryServer(tmp_path / "data") as server:
        before = [server.submit()["id"] for _ in range(3)]
        database = server.settings.database_path
        database.with_name(database.name + end).unlink()
        for _ in range(3):
            answer = server.admin.post("/v1/jobs", json={"config": {}})
            assert_problem(answer, 503, "storage_unavailable")
            assert "taken away" in answer.json()["detail"]
        assert_problem(server.http(None).get("/readyz"), 503, "storage_unavailable")
    rescued = list(database.parent.glob("orrery.db.rescued-*"))
    assert len(rescued) == 1
    assert rescued[0].stat().st_mode & 0o077 == 0
    if end:
        with OrreryServer(tmp_path / "data") as server:
            assert {server.job(job)["status"] for job in before} == {"queued"}
        return
    with pytest.raises(WrongDatabase, match="is gone"):
        prepare(server.settings)
    restore(rescued[0], database)
    with OrreryServer(tmp_path / "data") as server:
        assert {server.job(job)["status"] for job in before} == {"queued"}


def test_a_database_that_is_replaced_under_the_server_stops_it(tmp_path: Path) -> None:
    with OrreryServer(tmp_path / "data") as server:
        server.submit()
        database = server.settings.database_path
        shutil.copyfile(database, tmp_path / "copy.db")
        (tmp_path / "copy.db").replace(database)
        assert_problem(server.admin.post("/v1/jobs", json={"config": {}}), 503)


@pytest.mark.parametrize("damage", ["an older copy", "cut", "its log is cut"])
def test_a_database_that_is_changed_in_place_stops_it(tmp_path: Path, damage: str) -> None:
    with OrreryServer(tmp_path / "data") as server:
        database = server.settings.database_path
        older = backup(database, tmp_path / "older.db")
        for _ in range(3):
            server.submit()
        if damage == "an older copy":
            shutil.copyfile(older, database)
        else:
            os.truncate(f"{database}-wal" if "log" in damage else database, 0)
        for _ in range(2):
            assert_problem(server.admin.post("/v1/jobs", json={"config": {}}), 503)
        assert_problem(server.http(None).get("/readyz"), 503)


@pytest.mark.slow
def test_a_log_that_is_lost_after_an_unclean_end_is_missed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with OrreryServer(data) as server:
        server.submit()
        killed = tmp_path / "killed"
        shutil.copytree(data, killed)  # as kill -9 leaves it
    database = killed / ".orrery" / "orrery.db"
    Path(f"{database}-wal").unlink()
    with pytest.raises(WrongDatabase, match="-wal file is lost"):
        expect(database)
    expect(data / ".orrery" / "orrery.db")  # it ended in peace


@pytest.mark.slow
def test_a_servers_own_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        settings = server.settings
    shutil.rmtree(settings.state_folder)
    with pytest.raises(WrongDatabase, match="restore --empty"):
        prepare(settings)
    assert empty(settings.database_path, settings.folder_mark_path) is None
    prepare(settings).release()
