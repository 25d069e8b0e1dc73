"""`python -m worker.health`: healthy is who holds the lock."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker import health

ROOT = Path(__file__).parents[2]
NAME = "gpu-1"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "worker.token").write_text("a token of some length")
    monkeypatch.setenv("ORRERY_DATA", str(tmp_path))
    monkeypatch.setenv("ORRERY_WORKER_NAME", NAME)
    monkeypatch.setenv("ORRERY_WORKER_TOKEN_FILE", str(tmp_path / "worker.token"))
    monkeypatch.setattr(sys, "argv", ["worker.health"])
    return tmp_path


@pytest.fixture
def lock(data: Path) -> Path:
    path = data / ".orrery" / "workers" / NAME / "lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_worker_that_holds_its_lock_is_healthy(lock: Path) -> None:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert health.main() == 0


def test_another_process_sees_the_lock_as_well(lock: Path) -> None:
    command = [sys.executable, "-m", "worker.health"]
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert subprocess.run(command, cwd=ROOT).returncode == 0
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, f"no process holds {lock}\n")


def test_a_lock_file_that_is_open_but_not_locked_is_not_healthy(lock: Path) -> None:
    with lock.open("w"):
        assert health.main() == 1


def test_a_worker_that_died_left_a_lock_file_and_is_not_healthy(lock: Path) -> None:
    assert lock.exists()
    assert health.main() == 1


def test_a_worker_that_never_started_is_not_healthy(data: Path) -> None:
    assert health.main() == 1


def test_the_lock_of_another_worker_does_not_count(lock: Path) -> None:
    other = lock.parents[1] / "gpu-2" / "lock"
    other.parent.mkdir()
    with other.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert health.main() == 1


def test_looking_never_takes_the_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        pytest.fail("the check touched the lock")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert health.main() == 1


def test_a_process_that_is_gone_is_passed_over(lock: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Path("/proc") / str(child.pid)
    child.wait()
    assert health._descriptors(process) == []
    assert not health._holds(process / "fd" / "0", lock)
    assert Path(f"/proc/{os.getpid()}/fd/0") in health._descriptors(Path(f"/proc/{os.getpid()}"))


def test_wrong_settings_have_a_code_of_their_own(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORRERY_SLOTS", "0")
    assert health.main() == 2
    assert capsys.readouterr().err == "error: slots must be between 1 and 64\n"
