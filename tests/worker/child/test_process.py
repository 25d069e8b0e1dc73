"""What a process does before its task."""

from pathlib import Path
from typing import Any

import pytest

from nbody.config import Config
from nbody.errors import InvalidInitialConditions
from tests.worker.child.test_train import assignment
from worker.child.process import ended, on_the_gpu_shown, refuse_files_of_jobs
from worker.child.watcher import StopRequested
from worker.workplace import GpuPlace

JOB = f"job_{'0' * 26}"


def _config(path: str) -> Config:
    return Config(initial_conditions="file", ic_path=path, resample_each_epoch=False)


def test_a_link_into_the_folder_of_a_job_leads_to_no_initial_conditions(tmp_path: Path) -> None:
    folder = tmp_path / "run" / JOB / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "states.npy").touch()
    (tmp_path / "mine.npy").touch()
    (tmp_path / "link").symlink_to(folder)
    for path in ("link/states.npy", f"run/{JOB}/attempt-1/states.npy"):
        with pytest.raises(InvalidInitialConditions, match="folder of a job"):
            refuse_files_of_jobs(_config(path), tmp_path)
    refuse_files_of_jobs(_config("mine.npy"), tmp_path)
    refuse_files_of_jobs(Config(), tmp_path)


@pytest.mark.parametrize(
    ("device", "visible", "taken"),
    [("cuda:1", "3", "cuda"), ("cuda:0", "GPU-1", "cuda"), ("cuda:1", None, "cuda:1")]
    + [(name, "3", name) for name in ("auto", "cpu", "cuda")],
)
def test_a_gpus_number_is_that_of_the_one_gpu_that_a_job_is_shown(
    device: str, visible: str | None, taken: str
) -> None:
    place = None if visible is None else GpuPlace(visible, must_work=True, share=1.0)
    found = on_the_gpu_shown(assignment({"device": device}), place)
    assert found.config.device == taken
    assert found.job == "job"


@pytest.mark.parametrize(
    ("error", "status", "looks_crashed"),
    [(StopRequested(), "stopped", False), (RuntimeError("x"), "failed", True)],
)
def test_who_was_asked_to_stop_does_not_look_crashed(
    error: Exception, status: str, looks_crashed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def task() -> dict[str, Any]:
        raise error

    assert ended(task)["status"] == status
    printed = capsys.readouterr()
    assert ("Traceback" in printed.err) is looks_crashed
    assert ("as it was asked to" in printed.out) is not looks_crashed
