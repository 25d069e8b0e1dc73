"""One owner of a data folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.database.folder_lock import FolderInUse, FolderLock
from server.service import prepare
from server.settings import ServerSettings
from tests.server.conftest import OrreryServer

HOLDER = """
import sys
from pathlib import Path
from server.database.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "somebody")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_server_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        with pytest.raises(FolderInUse, match=rf"process {os.getpid()} on .*--data"):
            prepare(server.settings)
        server.submit()
    prepare(ServerSettings(data=tmp_path)).release()


def test_the_lock_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"somebody \\(process {holder.pid}"):
            FolderLock(tmp_path, "me")
        holder.kill()
        holder.wait()
        FolderLock(tmp_path, "me").release()


def test_no_child_keeps_the_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "me"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    FolderLock(tmp_path, "me").release()
    child.communicate(b"\n")


def test_the_lock_holds_though_its_file_is_deleted(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "me"):
        (tmp_path / "lock").unlink()
        with pytest.raises(FolderInUse):
            FolderLock(tmp_path, "somebody")
    FolderLock(tmp_path, "somebody").release()
