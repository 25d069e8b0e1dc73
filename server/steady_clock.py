"""A clock that nobody moves: seconds since the machine began, and which beginning that was.

It goes on over a restart of the server, and begins anew with the machine; in a machine that sleeps
it stands still.
"""

import time
from functools import cache
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Names what `read` counts from; empty where the machine does not say."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read() -> float:
    """Seconds [s]."""
    return time.monotonic()


def seconds_since(boot: str, then: float) -> float | None:
    """Since a reading; None if the machine began anew meanwhile."""
    return read() - then if boot and boot == boot_id() else None
