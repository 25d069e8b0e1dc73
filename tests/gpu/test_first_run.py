"""The plan for a GPU is sound: all of it runs, without graphs, on a CPU."""

import json
from pathlib import Path

import pytest

from tests.gpu.first_run import main


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

    monkeypatch.setattr("tests.gpu.first_run.CHECKS", (breaks, lambda run: run.say("went on")))
    assert main([str(tmp_path), "--device", "cpu"]) == 1
    told = (tmp_path / "run.jsonl").read_text()
    assert "no such kernel" in told
    assert "went on" in told
