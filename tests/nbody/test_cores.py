"""How many cores a process takes."""

import os
import sys
from pathlib import Path

import pytest

from nbody.cores import usable_cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_containers_quota_is_kept(tmp_path: Path, quota: str, cores: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(file) == (cores or usable_cores(tmp_path / "none"))


@pytest.mark.skipif(sys.platform != "linux", reason="affinity masks are Linux's")
def test_a_process_on_one_core_takes_one(tmp_path: Path) -> None:
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert usable_cores(tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, mask)
