"""What runs under a process."""

import os
from pathlib import Path


def command_line(pid: int) -> list[str]:
    """A process's arguments."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """All processes under a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found: list[int] = []
    layer = [pid]
    while layer:
        layer = [child for child, parent in parents.items() if parent in layer]
        found += layer
    return found


def runs(pid: int) -> bool:
    """Whether a process runs; one that is dead and only waits for its parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def leads_session(pid: int) -> bool:
    """Whether a process leads its own session."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False
