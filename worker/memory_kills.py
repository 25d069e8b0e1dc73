"""Whether the kernel killed a process for want of memory: nobody else can say so.

The count of this process's own control group, where it has one (version 2, then 1), else that of
the whole host.
"""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
HOST = Path("/proc/vmstat")


def memory_kills(membership: Path = MEMBERSHIP, cgroups: Path = CGROUPS, host: Path = HOST) -> int:
    """How many processes the kernel has killed so far because memory was short."""
    for path in _counters(membership, cgroups):
        found = _read(path)
        if found is not None:
            return found
    return _read(host) or 0


def _counters(membership: Path, cgroups: Path) -> list[Path]:
    """Where the count of this process's group may stand; in a container its own is the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        place = group.lstrip("/")
        if not controllers:
            found += [cgroups / place / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            folder = cgroups / "memory"
            found += [folder / place / "memory.oom_control", folder / "memory.oom_control"]
    return found


def _read(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdigit():
            return int(number)
    return None
