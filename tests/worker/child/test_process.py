"""What a process does before its task."""

from pathlib import Path

import pytest

from nbody.config import Config
from nbody.errors import InvalidInitialConditions
from worker.child.process import refuse_files_of_jobs

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
