"""How many CPU cores this process may use, and how many of them are free."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: "microseconds period", or "max …"
CPU_USED = Path("/sys/fs/cgroup/cpu.stat")  # by all processes of a container: "usage_usec …", …
CPU_TIMES = Path("/proc/stat")  # of each core of the host, in ticks
BRIEFLY = "10000"  # looks, some 50 µs, before a thread that waits goes to sleep: measured
IDLE = (3, 4)  # columns of a core's times: idle, and idle while a disk is waited for
GUESTS = 8  # columns from here on are counted in others, too


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores that this process may run on, at least one.

    Fewer than the machine has where an affinity mask (`taskset`, a batch system) or a container's
    CPU quota (`docker run --cpus`) says so; more threads than that slow each other down.
    """
    cores = _cores()
    try:
        allowance, period = quota.read_text().split()
        return max(1, min(len(cores), round(int(allowance) / int(period))))
    except (OSError, ValueError):  # no container, or one without a quota
        return len(cores)


def wait_briefly() -> None:
    """Let threads that wait for each other soon go to sleep: for programs that own their process,
    before torch is imported.

    On a host with other work to do a thread that spins takes the core that the one it waits for
    needs: a step takes several times as long.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", BRIEFLY)


class FreeCores:
    """How many of this process' cores others leave free, from one look to the next: of the host's,
    and of what a container may use, whichever is less.

    Args:
        times: file in the format of Linux's /proc/stat.
        quota, used: a container's cpu.max and cpu.stat.
        clock, own: seconds of wall time, and of CPU time of this process.
    """

    def __init__(
        self,
        times: Path = CPU_TIMES,
        quota: Path = CPU_QUOTA,
        used: Path = CPU_USED,
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self._times, self._quota, self._used = times, quota, used
        self._clock, self._own = clock, own
        self._before = self._now()

    def look(self) -> float | None:
        """Cores, on average since the last look; None where the system does not say."""
        before, self._before = self._before, self._now()
        elapsed = self._before["clock"] - before["clock"]
        if elapsed <= 0:
            return None

        def others(name: str) -> float:
            busy = (self._before[name] or 0.0) - (before[name] or 0.0)
            return max(0.0, busy - (self._before["own"] - before["own"])) / elapsed

        free: list[float] = []
        if None not in {before["host"], self._before["host"]}:
            free.append(len(_cores()) - others("host"))
        if None not in {before["container"], self._before["container"]}:
            allowed = usable_cores(self._quota)
            if allowed < len(_cores()):
                free.append(allowed - others("container"))
        return min(free, default=None)

    def _now(self) -> Any:
        """Wall time, and CPU time of this process, of all on its cores, of all in its container."""
        return {
            "clock": self._clock(),
            "own": self._own(),
            "host": self._of_the_host(),
            "container": self._of_the_container(),
        }

    def _of_the_host(self) -> float | None:
        names = {f"cpu{core}" for core in _cores()}
        busy = 0
        try:
            for line in self._times.read_text().splitlines():
                name, *columns = line.split()
                if name in names:
                    numbers = [int(column) for column in columns[:GUESTS]]
                    busy += sum(n for place, n in enumerate(numbers) if place not in IDLE)
            return busy / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            return None

    def _of_the_container(self) -> float | None:
        try:
            fields = dict(line.split() for line in self._used.read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        except (OSError, ValueError, KeyError):
            return None


def _cores() -> set[int]:
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
