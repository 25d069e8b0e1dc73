"""W&B's process, the agent, or both are killed at any moment: a run has every epoch once."""

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

from nbody.config import Config
from nbody.metrics import METRIC_NAMES
from server.wire.workers import Assignment
from tests.chaos.proof import Counted
from tests.offline_runs import read_back
from worker.spool import SpoolWriter
from worker.wandb_journal import Journal, start_telling, untold

ATTEMPTS = 3
EPOCHS = 12  # of a whole job
TAKEN_BACK = 2  # epochs that an attempt computes again
LONGEST_EPOCH_S = 0.5
LONGEST_LIFE_S = 6.0
PATIENCE_S = 120.0
FAULTS = ("agent", "telling", "both", "none")


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Jobs of three attempts; without protection nobody looks for what was left over."""
    os.environ["WANDB_MODE"] = "offline"
    found: list[str] = []
    for number in range(rounds):
        data, job = folder / f"data-{number}", f"job_{number:026}"
        data.mkdir()
        told = _live(Random(f"{number} {random.random()}"), data, job, protected)
        if wrong := _wrong(data, job):
            found.append(f"{job} ({told}): {wrong}")
    return Counted(rounds, len(found), found=found)


def _live(random: Random, data: Path, job: str, protected: bool) -> str:
    """A job's attempts, each with an agent of its own; returns what was done to them."""
    first, faults = 0, list[str]()
    for attempt in range(1, ATTEMPTS + 1):
        last = attempt == ATTEMPTS
        faults.append(random.choice(FAULTS))
        life = random.uniform(0, LONGEST_LIFE_S)
        pace = 0.0 if faults[-1] == "none" else random.uniform(0, LONGEST_EPOCH_S)
        if not protected:  # killed before it can have told all
            faults[-1], life, pace = "telling", LONGEST_LIFE_S / 6, LONGEST_EPOCH_S
        agent = os.fork()
        if agent == 0:
            _work(data, job, attempt, range(first, EPOCHS), pace, protected, last)
        if faults[-1] != "none":
            time.sleep(life)  # any moment
            if faults[-1] != "agent":
                _kill_telling(data)
            if faults[-1] != "telling" and not last:  # the last one ends its job
                os.kill(agent, signal.SIGKILL)
        os.waitpid(agent, 0)
        first = max(0, _epochs_on_record(data, attempt) - TAKEN_BACK)
    deadline = time.monotonic() + PATIENCE_S
    journal = Journal.of(data, job)
    while journal.folder.exists() and time.monotonic() < deadline:
        if protected and untold(data):
            start_telling(data).wait()
        time.sleep(0.1)
        if not protected and not _telling(data):
            break
    return ", ".join(faults)


def _work(
    data: Path, job: str, attempt: int, epochs: range, pace: float, protected: bool, last: bool
) -> None:
    """What an agent does for W&B, and a training process that dies with it."""
    if protected and untold(data):
        start_telling(data)
    path = data / f"spool-{attempt}"
    path.touch()
    journal = Journal.of(data, job)
    (data / "run" / job).mkdir(parents=True, exist_ok=True)
    journal.add(_assignment(job, attempt), path)
    start_telling(data, job)
    spool = SpoolWriter(path)
    for epoch in epochs if last else epochs[: len(epochs) // 2]:
        spool.append("epoch", dict.fromkeys(METRIC_NAMES, 0.5) | {"epoch": epoch})
        time.sleep(pace)
    status = "succeeded" if last else "stopped"
    spool.append("outcome", {"status": status, "result": {"stepper": {"steps": 1}}})
    if last:
        journal.mark_over()
        journal.remove_if_settled()
    time.sleep(pace)
    os._exit(0)


def _assignment(job: str, attempt: int) -> Assignment:
    return Assignment(
        job=job,
        attempt=attempt,
        lease_id=f"lease_{attempt}",
        lease_ttl_s=30.0,
        config=Config(wandb=True),
        output_folder=f"run/{job}/attempt-{attempt}",
        name=None,
        labels={},
        resume_from=[],
        runtime_left_s=None,
    )


def _epochs_on_record(data: Path, attempt: int) -> int:
    """The epoch after the last one that this attempt, or one before, had on record."""
    paths = [data / f"spool-{number}" for number in range(1, attempt + 1)]
    text = "".join(path.read_text() for path in paths if path.exists())
    return max((epoch + 1 for epoch in range(EPOCHS) if f'"epoch": {epoch}}}' in text), default=0)


def _telling(data: Path) -> list[int]:
    """Processes that tell of this data folder."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "worker.child.wandb" in line and str(data.resolve()) in line:
            found.append(int(entry.name))
    return found


def _kill_telling(data: Path) -> None:
    for process in _telling(data):
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _wrong(data: Path, job: str) -> str | None:
    """What a run lacks or has twice."""
    paths = list(data.glob(f"run/{job}/wandb/offline-run-*/*.wandb"))
    if len(paths) != 1:
        return f"{len(paths)} runs"
    told: dict[str, Any] = read_back(paths[0])
    if told["epochs"] != list(range(EPOCHS)):
        return f"epochs {told['epochs']}"
    return None if told.get("exit_code") == 0 and "stepper" in told["summary"] else "no end"
