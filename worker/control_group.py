"""What the kernel says of this process's control group (version 2, then 1), where it has one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """Where the kernel's files are."""

    cgroups: Path = Path("/sys/fs/cgroup")
    proc: Path = Path("/proc")


def memory_files(kernel: Kernel, name: str, name_v1: str) -> Iterator[str]:
    """What files of the memory controller hold; in a container its own group is the root.

    Args:
        name, name_v1: of the file in version 2 and 1.
    """
    for path in _places(kernel, name, name_v1):
        try:
            yield path.read_text(encoding="ascii")
        except (OSError, ValueError):
            continue


def _places(kernel: Kernel, name: str, name_v1: str) -> Iterator[Path]:
    try:
        lines = (kernel.proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        place = group.lstrip("/")
        if not controllers:
            yield from (kernel.cgroups / place / name, kernel.cgroups / name)
        elif "memory" in controllers.split(","):
            folder = kernel.cgroups / "memory"
            yield from (folder / place / name_v1, folder / name_v1)
