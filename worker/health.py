"""`python -m worker.health`: whether a worker of this name runs here. For health checks.

Takes the options and variables of `python -m worker`; exit code 0 yes, 1 no, 2 wrong settings.
"""

import re
import sys
from pathlib import Path

from worker.settings import InvalidSettings, read_settings


def main() -> int:
    """Look for the worker's lock; returns the exit code."""
    try:
        settings = read_settings()
    except InvalidSettings as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    folder = settings.state_folder
    pattern = re.sub(r"\*$", "[0-9]*", folder.name)  # of the workers of a pattern, one is enough
    if not any(map(is_held, folder.parent.glob(f"{pattern}/lock"))):
        sys.stderr.write(f"no process holds {folder / 'lock'}\n")
        return 1
    return 0


def is_held(lock: Path) -> bool:
    """Whether a process of this user holds a lock file.

    The kernel tells (proc(5)): trying to take the lock could turn away a worker that starts.
    """
    return any(
        _holds(descriptor, lock)
        for process in Path("/proc").glob("[0-9]*")
        for descriptor in _descriptors(process)
    )


def _descriptors(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # another user's process, or gone by now
        return []


def _holds(descriptor: Path, lock: Path) -> bool:
    information = descriptor.parents[1] / "fdinfo" / descriptor.name
    try:
        return descriptor.samefile(lock) and "FLOCK" in information.read_text(encoding="ascii")
    except OSError:  # closed by now, or no lock file
        return False


if __name__ == "__main__":
    sys.exit(main())
