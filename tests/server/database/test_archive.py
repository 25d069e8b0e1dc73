"""Whole backups: made while the service runs, put back on another machine."""

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.database import archive as archiving
from server.database.archive import MANIFEST, Archived, Manifest, archive, is_archive, unpack
from server.database.backup import NoBackup
from server.database.folder_lock import FolderInUse
from tests.server.conftest import OrreryServer, checkpoint

pytestmark = pytest.mark.slow


def _with_a_checkpoint(server: OrreryServer) -> tuple[str, dict[str, Any]]:
    """A job with a checkpoint, and that."""
    _, assignment = server.start(config={"save_name": "halo"})
    lease = assignment["lease_id"]
    reported = checkpoint(assignment, 0)
    content = os.urandom(reported["bytes"])
    path = server.settings.data / reported["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    reported["sha256"] = hashlib.sha256(content).hexdigest()
    assert server.report(lease, checkpoints=[reported]).status_code == 200
    server.finish(lease)
    return assignment["job"], reported


@pytest.fixture
def made(tmp_path: Path) -> tuple[str, Archived, str]:
    """A job with a checkpoint, the archive, and the admin's token."""
    data = tmp_path / "data"
    with OrreryServer(data) as server:
        job_id, _ = _with_a_checkpoint(server)
        (data / "ic").mkdir()
        (data / "ic" / "two.npy").write_bytes(b"as the user made it")
        server.submit(config={"initial_conditions": "file", "ic_path": "ic/two.npy"})
        whole = archive(data, tmp_path / "whole.tar")
        return job_id, whole, server.admin_token


def test_a_whole_backup_is_put_back_on_another_machine(
    tmp_path: Path, made: tuple[str, Archived, str]
) -> None:
    job_id, whole, token = made
    assert (whole.missing, whole.path.stat().st_mode & 0o777) == ([], 0o600)
    elsewhere = tmp_path / "elsewhere"
    assert is_archive(whole.path)
    assert unpack(whole.path, elsewhere) is None
    assert (elsewhere / "ic" / "two.npy").read_bytes() == b"as the user made it"
    with OrreryServer(elsewhere) as server, httpx.Client(base_url=server.url) as client:
        client.headers["Authorization"] = f"Bearer {token}"  # the tokens are the same
        [listed] = client.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
        body = client.get(f"/v1/checkpoints/{listed['id']}/content")
        assert body.status_code == 200
        assert body.content == (tmp_path / "data" / listed["path"]).read_bytes()
    assert not list(elsewhere.glob(".restoring-*"))
    for secret in (elsewhere / ".orrery").glob("*.token"):
        assert secret.stat().st_mode & 0o777 == 0o600


def test_it_goes_over_what_is_there_and_keeps_that(
    tmp_path: Path, made: tuple[str, Archived, str]
) -> None:
    job_id, whole, _ = made
    data = tmp_path / "data"
    [path] = data.glob(f"halo/{job_id}/*/model/*.pt")
    path.write_bytes(b"damaged")
    (data / "ic" / "two.npy").unlink()
    kept = unpack(whole.path, data)
    assert kept is not None
    assert (kept / "orrery.db").is_file()
    assert path.stat().st_size > 7
    assert [p.read_bytes() for p in path.parent.glob("*.before-*")] == [b"damaged"]
    assert (data / "ic" / "two.npy").is_file()


def test_what_is_listed_and_gone_or_damaged_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with OrreryServer(data) as server:
        _, gone = _with_a_checkpoint(server)
        _, damaged = _with_a_checkpoint(server)
        (data / gone["path"]).unlink()
        with (data / damaged["path"]).open("r+b") as file:
            file.write(b"\0\0\0\0\0\0")
        whole = archive(data, tmp_path / "whole.tar")
        assert sorted(whole.missing) == sorted([gone["path"], damaged["path"]])
        with pytest.raises(FileExistsError):
            archive(data, tmp_path / "whole.tar")
        with pytest.raises(FolderInUse):
            unpack(whole.path, data)


def _changed(source: Path, target: Path, change: str) -> Path:
    """A copy of an archive with something wrong with it."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for header in old:
            stream = old.extractfile(header)
            assert stream is not None
            content = stream.read()
            if header.name == MANIFEST and change == "a path that leads out":
                manifest = Manifest.model_validate_json(content)
                first = manifest.members[1]
                members = [first.model_copy(update={"path": "../out"}), *manifest.members[2:]]
                manifest = manifest.model_copy(update={"members": [manifest.members[0], *members]})
                content = manifest.model_dump_json().encode()
            if header.name.endswith(".pt"):
                if change == "a member is gone":
                    continue
                if change == "a byte is another":
                    content = bytes([content[0] ^ 1]) + content[1:]
                if change == "a link":
                    header.type, header.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
                if change == "a path that leads out":
                    header.name = "../out"
            header.size = len(content)
            new.addfile(header, io.BytesIO(content))
            if header.name.endswith(".pt") and change == "a member more":
                header.name = "halo/more.pt"
                new.addfile(header, io.BytesIO(content))
    return target


@pytest.mark.parametrize(
    "change",
    [
        "a member is gone",
        "a byte is another",
        "a link",
        "a path that leads out",
        "a member more",
        "it is cut",
    ],
)
def test_an_archive_with_something_wrong_changes_nothing(
    tmp_path: Path, made: tuple[str, Archived, str], change: str
) -> None:
    bad = _changed(made[1].path, tmp_path / "bad.tar", change)
    if change == "it is cut":
        with bad.open("r+b") as file:
            file.truncate(bad.stat().st_size // 2)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(NoBackup):
        unpack(bad, elsewhere)
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "out").exists()


def test_what_is_deleted_while_the_backup_is_made_is_in_it_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with OrreryServer(data) as server:
        _job_id, reported = _with_a_checkpoint(server)
        content = (data / reported["path"]).read_bytes()
        whole = archiving._describe

        def deleted(path: str, file: Path) -> archiving.Member:
            (data / reported["path"]).unlink(missing_ok=True)  # as retention would
            return whole(path, file)

        monkeypatch.setattr(archiving, "_describe", deleted)
        made = archive(data, tmp_path / "whole.tar")
    assert made.missing == []
    unpack(made.path, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / reported["path"]).read_bytes() == content
    assert not list(data.glob(".backing-up-*"))
