"""How many CPU cores this process may use."""

import os
import sys
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: "microseconds period", or "max …"


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores that this process may run on, at least one.

    Fewer than the machine has where an affinity mask (`taskset`, a batch system) or a container's
    CPU quota (`docker run --cpus`) says so; more threads than that slow each other down.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        allowance, period = quota.read_text().split()
        return max(1, min(cores, round(int(allowance) / int(period))))
    except (OSError, ValueError):  # no container, or one without a quota
        return cores
