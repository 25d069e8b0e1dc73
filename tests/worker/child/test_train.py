"""How a run becomes its outcome, and how it resumes."""

import errno
import hashlib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from nbody.config import Config
from nbody.errors import (
    CheckpointUnreadable,
    InvalidInitialConditions,
    StepImpossible,
    TrainingDiverged,
)
from nbody.metrics import METRIC_NAMES
from server.wire.history import Whereabouts
from server.wire.kinds import KINDS, JobKind
from server.wire.states import StopReason
from server.wire.workers import Assignment, ResumePoint
from worker.child.process import TASKS, outcome_of
from worker.child.train import train_job
from worker.child.watcher import ChildWatcher, StopRequested
from worker.spool import ProgressFile, SpoolReader, SpoolWriter

TINY: dict[str, Any] = {
    "num_orbits": 4,
    "steps_per_epoch": 2,
    "epochs": 5,
    "replay_steps": 3,
    "hidden_dims": [4],
    "checkpoint_every": 2,
    "evaluation_orbits": 2,
    "seed": 5,
}


def assignment(config: dict[str, Any], attempt: int = 1, *points: ResumePoint) -> Assignment:
    return Assignment(
        job="job",
        attempt=attempt,
        lease_id="lease",
        lease_ttl_s=1,
        config=Config(**config),
        output_folder=f"run/job/attempt-{attempt}",
        resume_from=list(points),
        runtime_left_s=None,
    )


def train(data: Path, given: Assignment, *, stop: bool = False) -> tuple[dict[str, Any], list[Any]]:
    path = data / f"spool-{given.attempt}"
    spool, watcher = SpoolWriter(path), ChildWatcher(ProgressFile(data / "progress"))
    if stop:
        watcher.ask_to_stop()
    outcome = train_job(given, data, spool, watcher)
    spool.close()
    return outcome, SpoolReader(path).peek(1000)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingDiverged("the loss"), StopReason.DIVERGED),
        (InvalidInitialConditions("none"), StopReason.INVALID_CONFIG),
        (StepImpossible([0], 1e-4), StopReason.INVALID_CONFIG),
        (torch.cuda.OutOfMemoryError("full"), StopReason.OOM),
        (MemoryError(), StopReason.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), StopReason.OOM),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), StopReason.OOM),
        (RuntimeError("CUDA error: out of memory"), StopReason.OOM),  # torch.AcceleratorError
        (RuntimeError("std::bad_alloc"), StopReason.OOM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), StopReason.OOM),
        (OSError(errno.ENOSPC, "No space left"), StopReason.DISK_FULL),
        (OSError(errno.EACCES, "Permission denied"), StopReason.ERROR),
        (ZeroDivisionError("division by zero"), StopReason.ERROR),
    ],
)
def test_each_way_to_fail_has_its_reason(error: Exception, reason: StopReason) -> None:
    outcome = outcome_of(error)
    assert (outcome["status"], outcome["stop_reason"]) == ("failed", reason)
    assert outcome["detail"]


def test_an_error_that_came_from_a_lack_of_memory_is_one() -> None:
    error = ValueError("the batch could not be made")
    error.__cause__ = MemoryError()
    assert outcome_of(error)["stop_reason"] == StopReason.OOM


def test_a_requested_stop_is_no_failure() -> None:
    assert outcome_of(StopRequested())["status"] == "stopped"


def test_a_run_writes_begin_epochs_checkpoints_and_scores(tmp_path: Path) -> None:
    outcome, records = train(tmp_path, assignment(TINY))
    kinds = [record["kind"] for record in records]
    assert kinds == [
        "begin",
        *("epoch", "checkpoint", "epoch") * 2,
        "epoch",
        "checkpoint",
        "artifact",
    ]
    begun = Whereabouts.model_validate(records[0]["data"]["whereabouts"])
    assert (begun.seed, begun.device, begun.gpu) == (str(TINY["seed"]), "cpu", None)
    assert begun.versions["torch"] == torch.__version__
    epochs = [record["data"] for record in records if record["kind"] == "epoch"]
    assert [tuple(epoch) for epoch in epochs] == [METRIC_NAMES] * 5
    for record in records:
        if record["kind"] == "checkpoint":
            content = (tmp_path / record["data"]["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == record["data"]["sha256"]
    assert outcome["status"] == "succeeded"
    assert outcome["result"]["stepper"]["efficiency"] > 0


def test_a_stopped_run_leaves_a_checkpoint_of_its_last_epoch(tmp_path: Path) -> None:
    config = {**TINY, "checkpoint_every": 100}
    outcome, records = train(tmp_path, assignment(config), stop=True)
    assert outcome["status"] == "stopped"
    first = next(record["data"] for record in records if record["kind"] == "checkpoint")
    point = ResumePoint(epoch=first["epoch"], path=first["path"], sha256=first["sha256"])
    _, rest = train(tmp_path, assignment(config, 2, point))
    assert rest[0]["data"]["first_epoch"] == 1


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path: Path) -> None:
    _, records = train(tmp_path, assignment(TINY))
    saved = [record["data"] for record in records if record["kind"] == "checkpoint"]
    points = [
        ResumePoint(epoch=c["epoch"], path=c["path"], sha256=c["sha256"]) for c in reversed(saved)
    ]
    for point in points[:-1]:
        path = tmp_path / point.path
        path.write_bytes(path.read_bytes()[:-1])
    _, rest = train(tmp_path, assignment(TINY, 2, *points))
    assert rest[0]["data"]["first_epoch"] == 1


def test_without_a_readable_checkpoint_training_starts_again(tmp_path: Path) -> None:
    missing = ResumePoint(epoch=3, path="run/job/attempt-1/model/gone.pt", sha256="0" * 64)
    _, records = train(tmp_path, assignment(TINY, 2, missing))
    assert records[0]["data"]["first_epoch"] == 0


def test_a_start_that_a_user_named_is_never_replaced_by_another(tmp_path: Path) -> None:
    gone = ResumePoint(epoch=1, path="old/model_epoch_0001.pt", sha256="0" * 64)
    named = assignment(TINY, 1, gone).model_copy(update={"must_resume": True})
    with pytest.raises(CheckpointUnreadable, match="retry from another") as error:
        train(tmp_path, named)
    assert outcome_of(error.value)["stop_reason"] == StopReason.INVALID_CONFIG
    outcome, _ = train(tmp_path, assignment(TINY, 2, gone))
    assert outcome["status"] == "succeeded"


def test_every_kind_of_job_has_its_facts_and_its_task() -> None:
    assert KINDS.keys() == TASKS.keys() == set(get_args(JobKind))
