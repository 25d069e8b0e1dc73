"""Whose count of kills for want of memory is read."""

from pathlib import Path

import pytest

from worker.memory_kills import memory_kills


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "vmstat"
    path.write_text("nr_free_pages 5\noom_kill 9\n")
    return path


def _group(tmp_path: Path, line: str, counter: str, text: str) -> tuple[Path, Path]:
    membership, cgroups = tmp_path / "membership", tmp_path / "cgroup"
    membership.write_text(line)
    path = cgroups / counter
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return membership, cgroups


@pytest.mark.parametrize(
    ("line", "counter"),
    [
        ("0::/job.slice\n", "job.slice/memory.events"),
        ("0::/\n", "memory.events"),
        ("0::/seen/from/outside\n", "memory.events"),
        ("5:cpu,memory:/job\n0::/\n", "memory/job/memory.oom_control"),
        ("5:memory:/docker/x\n", "memory/memory.oom_control"),
    ],
)
def test_the_count_of_the_own_group_is_read(
    tmp_path: Path, host: Path, line: str, counter: str
) -> None:
    found = _group(tmp_path, line, counter, "oom 7\nunder_oom 0\noom_kill 3\n")
    assert memory_kills(*found, host) == 3


def test_without_a_group_the_hosts_count_is_read(tmp_path: Path, host: Path) -> None:
    assert memory_kills(tmp_path / "none", tmp_path, host) == 9
    assert memory_kills(tmp_path / "none", tmp_path, tmp_path / "no") == 0
