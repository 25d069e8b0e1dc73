"""What W&B gets to see."""

import os
from pathlib import Path
from typing import Any

from nbody.metrics import METRIC_NAMES
from worker.child.wandb import follow
from worker.spool import SpoolReader, SpoolWriter


class Run:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, Any], int]] = []

    def log(self, data: dict[str, Any], step: int) -> None:
        self.rows.append((data, step))


def logged(path: Path, status: str) -> tuple[Run, bool]:
    spool, run = SpoolWriter(path), Run()
    spool.append("begin", {"first_epoch": 4})
    for epoch in (4, 5):
        spool.append("epoch", dict.fromkeys(METRIC_NAMES, 0.5) | {"epoch": epoch})
    spool.append("outcome", {"status": status})
    spool.close()
    return run, follow(SpoolReader(path), run, os.getppid())


def test_each_epoch_is_logged_under_its_number_with_the_users_names(tmp_path: Path) -> None:
    run, succeeded = logged(tmp_path / "spool", "succeeded")
    assert [step for _, step in run.rows] == [4, 5]
    assert all(tuple(data) == METRIC_NAMES for data, _ in run.rows)
    assert succeeded


def test_a_failed_attempt_is_said_to_have_failed(tmp_path: Path) -> None:
    assert not logged(tmp_path / "spool", "failed")[1]
