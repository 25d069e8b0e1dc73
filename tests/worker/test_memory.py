"""Whose count of kills for want of memory is read, and whose limit."""

from pathlib import Path

import pytest

from worker.control_group import Kernel
from worker.memory import memory_bytes, memory_kills

GROUPS = [
    ("0::/job.slice\n", "job.slice", 2),
    ("0::/\n", "", 2),
    ("0::/seen/from/outside\n", "", 2),
    ("5:cpu,memory:/job\n0::/\n", "memory/job", 1),
    ("5:memory:/docker/x\n", "memory", 1),
]


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    kernel = Kernel(tmp_path / "cgroup", tmp_path / "proc")
    (kernel.proc / "self").mkdir(parents=True)
    (kernel.proc / "vmstat").write_text("nr_free_pages 5\n\noom_kill 9\n")
    (kernel.proc / "meminfo").write_text("MemTotal:  8000 kB\nMemFree: 5 kB\n")
    return kernel


def _write(kernel: Kernel, line: str, path: str, text: str) -> None:
    (kernel.proc / "self" / "cgroup").write_text(line)
    (kernel.cgroups / path).parent.mkdir(parents=True, exist_ok=True)
    (kernel.cgroups / path).write_text(text)


@pytest.mark.parametrize(("line", "folder", "version"), GROUPS)
def test_the_count_of_the_own_group_is_read(
    kernel: Kernel, line: str, folder: str, version: int
) -> None:
    name = {1: "memory.oom_control", 2: "memory.events"}[version]
    _write(kernel, line, f"{folder}/{name}".lstrip("/"), "oom 7\nunder_oom 0\noom_kill 3\n")
    assert memory_kills(kernel) == 3


@pytest.mark.parametrize(("line", "folder", "version"), GROUPS)
def test_the_limit_of_the_own_group_is_read(
    kernel: Kernel, line: str, folder: str, version: int
) -> None:
    name = {1: "memory.limit_in_bytes", 2: "memory.max"}[version]
    _write(kernel, line, f"{folder}/{name}".lstrip("/"), "4096000\n")
    assert memory_bytes(kernel) == 4_096_000


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n"])
def test_a_group_without_a_limit_has_the_hosts_memory(kernel: Kernel, limit: str) -> None:
    _write(kernel, "0::/\n", "memory.max", limit)
    assert memory_bytes(kernel) == 8_192_000


def test_without_a_group_the_hosts_numbers_are_read(kernel: Kernel) -> None:
    assert memory_kills(kernel) == 9
    assert memory_bytes(kernel) == 8_192_000


def test_a_kernel_that_tells_nothing_is_no_trouble(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, tmp_path)
    assert (memory_kills(kernel), memory_bytes(kernel)) == (0, None)
