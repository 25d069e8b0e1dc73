"""What workers left that do not come again."""

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO

import pytest

from worker import own_name as own_name_module
from worker.files.abandoned import LEFT_S, NOTED_S, clear_abandoned
from worker.own_name import AlreadyRunning, own_name
from worker.settings import WorkerSettings


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    return tmp_path / ".orrery" / "workers"


def left(folder: Path, age_s: float, *files: str) -> Path:
    """A worker's folder in which nothing changed for so long."""
    for name in ("lock", *files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    then = time.time() - age_s
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))
    return folder


def names(workers: Path) -> list[str]:
    return sorted(path.name for path in workers.iterdir())


def test_folders_go_that_nobody_used_for_a_day(workers: Path) -> None:
    own = left(workers / "own", 2 * LEFT_S)
    left(workers / "pool-1", 1.1 * LEFT_S, "scratch/run/job_x/a.pt", "cache/abc")
    left(workers / "pool-2", 0.9 * LEFT_S, "scratch/run/job_x/a.pt")
    late = left(workers / "pool-3", 2 * LEFT_S, "lease_x/spool.jsonl")
    (late / "lease_x" / "spool.jsonl").write_text("still written")
    clear_abandoned(own)
    assert names(workers) == ["own", "pool-2", "pool-3"]


def test_one_that_runs_keeps_its_folder_however_quiet_it_is(workers: Path) -> None:
    quiet = left(workers / "pool-1", 2 * LEFT_S, "cache/abc")
    with (quiet / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        clear_abandoned(workers / "own")
        assert (quiet / "cache" / "abc").exists()


def test_a_note_of_gpus_stays_for_a_month(workers: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = left(workers / "pool-1", 2 * LEFT_S, "gpus-node7", "cache/abc")
    clear_abandoned(workers / "own")
    assert sorted(path.name for path in folder.iterdir()) == ["gpus-node7", "lock"]
    left(folder, 2 * LEFT_S, "gpus-node7")
    clear_abandoned(workers / "own")
    assert caplog.text.count("is taken away") == 1  # and not every time
    left(folder, 1.1 * NOTED_S, "gpus-node7")
    clear_abandoned(workers / "own")
    assert names(workers) == []


def test_what_wandb_is_to_be_told_stays(workers: Path) -> None:
    spool = f"scratch/.orrery/wandb/job_{'0' * 26}/attempt-1.jsonl"
    folder = left(workers / "pool-1", 2 * LEFT_S, spool)
    clear_abandoned(workers / "own")
    assert (folder / spool).exists()


def test_a_name_is_held_by_a_lock_that_is_there(
    tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is taken away between its lock's opening and its locking."""
    settings = WorkerSettings("http://x", "t", tmp_path, "pool-1", 1, 1)
    flock = fcntl.flock
    gone: list[Path] = []

    def late(lock: IO[str], how: int) -> None:
        if not gone:
            gone.append(workers / "pool-1")
            shutil.rmtree(gone[0])
        flock(lock, how)

    monkeypatch.setattr(own_name_module.fcntl, "flock", late)
    with own_name(settings) as first:
        assert (first.state_folder / "lock").exists()
        with pytest.raises(AlreadyRunning), own_name(settings):
            pass
