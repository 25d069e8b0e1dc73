"""The plan for a GPU is sound: all of it runs, without graphs, on a CPU."""

import json
from pathlib import Path

import pytest

from tests.gpu.first_run.__main__ import main
from tests.gpu.first_run.configs import NETWORKS
from tests.gpu.first_run.report import FirstRun, loops_of
from tests.gpu.kernels import kernels_of_loops


@pytest.mark.slow
def test_the_plan_for_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    code = main([str(tmp_path), "--device", "cpu"])
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert lines[-1]["failed"] == []
    assert code == 0
    assert {line["check"] for line in lines} >= {"bits oracle", "captured history", "kernels"}


def test_a_check_that_fails_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: object) -> None:
        raise RuntimeError("no such kernel")

    checks = (breaks, lambda run: run.say("went on"))
    monkeypatch.setattr("tests.gpu.first_run.__main__.CHECKS", checks)
    assert main([str(tmp_path), "--device", "cpu"]) == 1
    told = (tmp_path / "run.jsonl").read_text()
    assert "no such kernel" in told
    assert "went on" in told


def test_an_iteration_has_no_more_kernels_than_were_counted(tmp_path: Path) -> None:
    """They are what a GPU's time goes to; compiled ones are counted by `engine.py`."""
    run = FirstRun(tmp_path, "cpu", budget_s=60.0)
    collection, learner, _ = loops_of(run.start(**NETWORKS["64x64"]), 16)
    counted = kernels_of_loops(collection, learner)
    most = {"attempt": 150, "advance": 540, "learn": 62, "judge": 75}
    assert all(counted[name] <= limit for name, limit in most.items()), counted
