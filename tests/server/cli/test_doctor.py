"""What `orrery doctor` finds."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from server.cli.doctor import Finding, examine
from server.client import Client
from server.database.filesystems import NetworkFilesystem, check_local, filesystem_of
from server.database.migrate import migrate
from server.service import prepare
from server.settings import ServerSettings
from tests.server.conftest import Orrery, OrreryServer, checkpoint
from worker.own_name import own_name
from worker.settings import WorkerSettings


def found(data: Path, url: str = "http://127.0.0.1:1", token: str = "x") -> dict[str, Finding]:
    with Client(url, token) as client:
        return {finding.about: finding for finding in examine(ServerSettings(data=data), client)}


def test_all_is_well_where_all_is_well(server: OrreryServer) -> None:
    server.register()
    findings = found(server.settings.data, server.url, server.admin_token)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert "w-" in findings["workers"].detail


def test_a_server_that_does_not_run_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    findings = found(tmp_path / "none")
    assert findings["server"].level == "warning"
    assert findings["data folder"].level == "warning"


@pytest.mark.slow
def test_a_damaged_database_and_one_of_a_later_release(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    migrate(settings.database_path)
    assert found(tmp_path)["database"].level == "ok"
    connection = sqlite3.connect(settings.database_path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert "later release" in found(tmp_path)["database"].detail
    settings.database_path.write_bytes(b"no database at all" * 100)
    finding = found(tmp_path)["database"]
    assert finding.level == "error"
    assert "restore a backup" in finding.detail


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    prepare(settings)
    settings.admin_token_path.write_text("secret")
    settings.admin_token_path.chmod(0o644)
    assert found(tmp_path)["admin.token"].level == "warning"


def test_jobs_that_wait_for_a_worker_that_is_not_there(server: OrreryServer) -> None:
    server.submit()
    server.service.last_seen.clear()
    finding = found(server.settings.data, server.url, server.admin_token)["workers"]
    assert finding.level == "warning"
    assert "orrery work" in finding.detail


def test_a_database_on_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nnas:/x {tmp_path}/shared nfs4 rw 0 0\n")
    assert filesystem_of(tmp_path / "shared" / "data", mounts) == "nfs4"
    assert filesystem_of(tmp_path / "own", mounts) == "ext4"
    assert filesystem_of(tmp_path, tmp_path / "none") is None
    monkeypatch.setattr("server.database.filesystems.filesystem_of.__defaults__", (mounts,))
    check_local(tmp_path / "own")
    with pytest.raises(NetworkFilesystem, match="local disk"):
        prepare(ServerSettings(data=tmp_path / "shared"))


def test_the_command_fails_where_something_is_broken(
    server: OrreryServer, orrery: Orrery, tmp_path: Path
) -> None:
    assert orrery("doctor").code == 0
    broken = ServerSettings(data=tmp_path)
    migrate(broken.database_path)
    broken.database_path.write_bytes(b"x" * 5000)
    done = orrery("doctor", "--data", str(tmp_path), "--json")
    assert done.code == 1
    assert '"level": "error"' in done.out


def test_every_listed_file_is_looked_at(server: OrreryServer) -> None:
    _, assignment = server.start()
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    saved = checkpoint(assignment, 0, bytes=len(content), sha256=digest)
    path = server.settings.data / saved["path"]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    server.report(assignment["lease_id"], checkpoints=[saved])
    assert found(server.settings.data)["files"].level == "ok"
    path.write_bytes(b"weighty")
    finding = found(server.settings.data)["files"]
    assert finding.level == "error"
    assert saved["path"] in finding.detail


def test_a_folder_of_workers_is_looked_at_as_that(server: OrreryServer, tmp_path: Path) -> None:
    settings = WorkerSettings(server.url, server.worker_token, tmp_path, "far", 1, 1)
    with own_name(settings):
        findings = found(tmp_path, server.url, server.worker_token)
        assert {finding.level for finding in findings.values()} == {"ok"}
        assert findings["workers"].detail == "far run here"
        assert "role worker" in findings["token"].detail
        assert not {"database", "admin.token", "worker.token"} & findings.keys()
    assert found(tmp_path, server.url, server.worker_token)["workers"].level == "warning"
    assert found(tmp_path, server.url, server.admin_token)["token"].level == "error"
