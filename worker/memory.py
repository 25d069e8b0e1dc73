"""How much memory this worker's jobs may use, and whether the kernel killed one for want of it:
nobody else can say so.

Of this process's own control group, where it has one, else of the whole host.
"""

from worker.control_group import Kernel, memory_files

KERNEL = Kernel()
KIB = 1024


def memory_kills(kernel: Kernel = KERNEL) -> int:
    """How many processes the kernel has killed so far because memory was short."""
    for text in memory_files(kernel, "memory.events", "memory.oom_control"):
        if (kills := _number(text, "oom_kill")) is not None:
            return kills
    return _number(_of_host(kernel, "vmstat"), "oom_kill") or 0


def memory_bytes(kernel: Kernel = KERNEL) -> int | None:
    """What the host has, or less where the control group has a limit; None: the kernel tells
    neither.
    """
    total = _number(_of_host(kernel, "meminfo"), "MemTotal:")
    sizes = [] if total is None else [total * KIB]
    for text in memory_files(kernel, "memory.max", "memory.limit_in_bytes"):
        sizes += [int(text)] if text.strip().isdigit() else []  # or it says "max"
    return min(sizes, default=None)


def _of_host(kernel: Kernel, name: str) -> str:
    try:
        return (kernel.proc / name).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _number(text: str, name: str) -> int | None:
    """The number of a line `name number …`."""
    for line in text.splitlines():
        first, *rest = [*line.split(), "", ""]
        if first == name and rest[0].isdigit():
            return int(rest[0])
    return None
