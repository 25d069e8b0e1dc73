"""Backups of a running service, and putting them back."""

from pathlib import Path

import pytest

from server.database.backup import DatabaseInUse, NoBackup, backup, restore
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
        with pytest.raises(DatabaseInUse, match="stop the server"):
            restore(copy, database)
        assert server.job(later["id"])["name"] == "after the backup"
    kept = restore(copy, database)
    assert kept is not None
    assert kept.is_file()
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
