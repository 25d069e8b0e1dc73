"""What W&B gets to see of a job, whatever happens between."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nbody.config import Config
from nbody.evaluation.picture import draw_look
from nbody.metrics import METRIC_NAMES
from server.wire.workers import Assignment
from tests.offline_runs import read_back
from worker.child import wandb as telling
from worker.spool import SpoolWriter
from worker.wandb_journal import Journal, start_telling, untold

JOB = "job_01kjg3b2000000000000000000"


class Run:
    """Keeps what is logged, from a first step on."""

    def __init__(self, starting_step: int = 0, *, offline: bool = False) -> None:
        self.starting_step, self.offline = starting_step, offline
        self.rows: list[tuple[dict[str, Any], int]] = []

    def log(self, data: dict[str, Any], step: int) -> None:
        self.rows.append((data, step))

    @property
    def steps(self) -> list[int]:
        return [step for _, step in self.rows]


def assignment(attempt: int, **fields: Any) -> Assignment:
    return Assignment(
        job=JOB,
        attempt=attempt,
        lease_id=f"lease_{attempt}",
        lease_ttl_s=30.0,
        config=Config(wandb=True, **fields),
        output_folder=f"run/{JOB}/attempt-{attempt}",
        name="halo",
        labels={"paper": "draft"},
        resume_from=[],
        runtime_left_s=None,
    )


def attempt(data: Path, number: int, epochs: range, outcome: dict[str, Any] | None) -> Journal:
    """An attempt's spool, added to the journal."""
    (data / "run" / JOB).mkdir(parents=True, exist_ok=True)
    state = data / f"spool-{number}"
    spool = SpoolWriter(state)
    spool.append("begin", {"first_epoch": epochs.start})
    for epoch in epochs:
        spool.append("epoch", dict.fromkeys(METRIC_NAMES, 0.5) | {"epoch": epoch})
    if outcome is not None:
        spool.append("outcome", outcome)
    spool.close()
    journal = Journal.of(data, JOB)
    journal.add(assignment(number), state)
    return journal


def test_each_epoch_is_logged_once_under_its_number_with_the_users_names(tmp_path: Path) -> None:
    attempt(tmp_path, 1, range(6), {"status": "stopped"})
    journal = attempt(tmp_path, 2, range(4, 8), {"status": "succeeded"})
    run = Run()
    assert telling.log_all(journal, run, None)[0] == {"status": "succeeded"}
    assert run.steps == list(range(8))
    assert all(tuple(data) == METRIC_NAMES for data, _ in run.rows)


def test_a_run_goes_on_after_what_the_service_has(tmp_path: Path) -> None:
    journal = attempt(tmp_path, 1, range(6), None)
    run = Run(4)
    assert telling.log_all(journal, run, None)[0] is None
    assert run.steps == [4, 5]
    offline = Run(4, offline=True)
    telling.log_all(journal, offline, None)
    assert offline.steps == list(range(6))


def tell(journal: Journal) -> None:
    """Tell all that there is, to nobody."""
    journal.mark_told(telling.log_all(journal, Run(), None)[1])


def test_a_journal_stays_until_it_is_told_and_over(tmp_path: Path) -> None:
    journal = attempt(tmp_path, 1, range(2), {"status": "succeeded"})
    assert untold(tmp_path) == [journal]
    tell(journal)
    assert untold(tmp_path) == []
    assert journal.folder.is_dir()
    attempt(tmp_path, 2, range(1, 3), {"status": "succeeded"})
    journal.mark_over()
    assert untold(tmp_path) == [journal]
    with journal.held(wait=False) as mine:
        assert mine
        assert untold(tmp_path) == []  # somebody does it
        tell(journal)
        journal.remove_if_settled()
        assert journal.folder.is_dir()  # and goes on with it
    assert untold(tmp_path) == []
    assert not journal.folder.exists()


def test_what_comes_while_another_process_tells_is_not_told(tmp_path: Path) -> None:
    journal = attempt(tmp_path, 1, range(2), None)
    last = telling.log_all(journal, Run(), None)[1]
    writer = SpoolWriter(journal.spools()[-1])
    writer.append("outcome", {"status": "stopped"})
    writer.close()
    journal.mark_told(last)
    assert not journal.is_told
    last = telling.log_all(journal, Run(), None)[1]
    attempt(tmp_path, 2, range(1, 3), {"status": "succeeded"})
    journal.mark_told(last)
    assert not journal.is_told


def test_an_attempt_that_follows_takes_back_that_a_job_is_over(tmp_path: Path) -> None:
    journal = attempt(tmp_path, 1, range(2), {"status": "succeeded"})
    journal.mark_over()
    attempt(tmp_path, 2, range(1, 3), None)
    tell(journal)
    journal.remove_if_settled()
    assert journal.folder.is_dir()


def test_who_waited_for_a_journal_that_was_removed_does_not_have_it(tmp_path: Path) -> None:
    journal = attempt(tmp_path, 1, range(2), {"status": "succeeded"})
    has_it: list[bool] = []

    def wait() -> None:
        with journal.held(wait=True) as mine:
            has_it.append(mine)

    with journal.held(wait=False):
        waiting = threading.Thread(target=wait)
        waiting.start()
        _until(lambda: _waits_for_a_lock(journal.folder / "lock"))
        journal.remove()
    waiting.join()
    assert has_it == [False]


def _waits_for_a_lock(path: Path) -> bool:
    file = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any(" -> " in line and file in line for line in lines)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_what_killed_processes_left_is_told_whole_and_once(tmp_path: Path) -> None:
    attempt(tmp_path, 1, range(4), None)
    killed = start_telling(tmp_path, JOB)
    folder = tmp_path / "run" / JOB / "wandb"
    _until(lambda: bool(list(folder.glob("offline-run-*/*.wandb"))))
    (folder / f"offline-run-20260101_000000-{JOB}-1").mkdir()  # begun in the second of another
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    scores = {"stepper": {"calibrated_efficiency": 0.9}}
    journal = attempt(tmp_path, 2, range(2, 6), {"status": "succeeded", "result": scores})
    journal.mark_over()
    assert start_telling(tmp_path).wait(120) == -signal.SIGKILL  # and all that W&B started
    assert not journal.folder.exists()
    [run] = folder.glob("offline-run-*")
    told = read_back(next(run.glob("*.wandb")))
    assert told["epochs"] == list(range(6))
    assert told["exit_code"] == 0
    assert told["name"] == "halo"
    assert told["tags"] == ["paper=draft"]
    assert "stepper" in told["summary"]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_pause_is_no_failure_and_a_failure_is(tmp_path: Path) -> None:
    for status, code in (("stopped", 0), ("failed", 1)):
        data = tmp_path / status
        data.mkdir()
        attempt(data, 1, range(2), {"status": status})
        start_telling(data).wait(120)
        [path] = data.glob("run/*/wandb/offline-run-*/*.wandb")
        assert read_back(path)["exit_code"] == code


@pytest.mark.slow
def test_a_service_that_cannot_be_reached_is_noted_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    script = "from worker.child import wandb; wandb.INIT_TIMEOUT_S = 2; wandb.FAREWELL_S = 3\n"
    script += f"from pathlib import Path; wandb.main(Path({str(tmp_path)!r}), {JOB!r})"
    journal = attempt(tmp_path, 1, range(2), None)
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    spool = journal.spools()[-1]
    _until(lambda: b'"note"' in spool.read_bytes())
    writer = SpoolWriter(spool)
    writer.append("outcome", {"status": "stopped"})
    writer.close()
    assert process.wait(60) == -signal.SIGKILL
    assert untold(tmp_path) == [journal]


def _until(met: Any) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HELD_OUT = {
    "ratios": {
        "edges": [0.01, 0.1, 1.0],
        "shares": {"stepper": [0.1, 0.9], "free_fall": [0.6, 0.4]},
    },
    "by_eccentricity": [
        {"from": 0.6, "to": 0.8, "efficiency": {"stepper": 0.9, "free_fall": 0.5}},
        {"from": 0.8, "to": 0.9, "efficiency": {"stepper": 0.8, "free_fall": 0.4}},
    ],
}


def leave(data: Path, name: str, content: bytes) -> dict[str, Any]:
    """A file of the first attempt, as a record has it."""
    path = data / f"run/{JOB}/attempt-1/{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"path": str(path.relative_to(data)), "bytes": len(content), "sha256": sha256}


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_pictures_checkpoints_and_sweeps_are_read_back_as_they_are(tmp_path: Path) -> None:
    """From the files of a real offline run."""
    look = leave(tmp_path, "held_out.json", json.dumps(HELD_OUT).encode())
    draw_look(HELD_OUT, tmp_path / "drawn.png")
    picture = leave(tmp_path, "evaluation.png", (tmp_path / "drawn.png").read_bytes())
    points = [
        {"epoch": n, "rolling": n == 1, **leave(tmp_path, f"model/{n}.pt", b"x" * n)}
        for n in range(3)
    ]
    gone = {"epoch": 3, "rolling": False, **leave(tmp_path, "model/3.pt", b"gone")}
    (tmp_path / gone["path"]).unlink()
    state = tmp_path / "spool"
    spool = SpoolWriter(state)
    metrics = [dict.fromkeys(METRIC_NAMES, 0.25 * n) | {"epoch": n} for n in range(3)]
    for row in metrics:
        spool.append("epoch", row)
    for point in (*points, gone):
        spool.append("checkpoint", point)
    for file in (look, picture):
        spool.append("artifact", file)
    spool.append("outcome", {"status": "succeeded", "result": {}})
    spool.close()
    journal = Journal.of(tmp_path, JOB)
    journal.add(assignment(1).model_copy(update={"labels": {"sweep": "sweep_1"}}), state)
    start_telling(tmp_path).wait(120)
    [run] = tmp_path.glob("run/*/wandb/offline-run-*")
    told = read_back(next(run.glob("*.wandb")))
    assert told["group"] == "sweep_1"
    assert told["job_type"] == "train"
    assert [{key: row[key] for key in METRIC_NAMES} for row in told["history"]] == metrics
    [kept] = run.rglob("media/images/**/*.png")
    assert kept.read_bytes() == (tmp_path / picture["path"]).read_bytes()
    charts = {name for name in told["logged"] if name.startswith("evaluation/")}
    assert {"evaluation/picture", "evaluation/dt over dt*_table"} <= charts
    assert "evaluation/eta over eccentricity_table" in charts
    references = told["artifacts"][f"checkpoints-{JOB}"]
    kept_points = [point for point in points if not point["rolling"]]
    assert references == {
        Path(point["path"]).name: (tmp_path / point["path"]).as_uri() for point in kept_points
    }
