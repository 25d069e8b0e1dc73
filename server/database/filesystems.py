"""Which filesystem a folder is on: SQLite's locks and syncs do not hold on those of a network."""

from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK_FILESYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph")
)


class NetworkFilesystem(OSError):
    """The database would be on a filesystem that loses data."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(
            f"{folder} is on a network filesystem ({kind}), where SQLite loses data; make "
            f"{folder} a link to a folder on a local disk, or use another data folder"
        )


def check_local(folder: Path) -> None:
    """Raises NetworkFilesystem where a folder is on one."""
    kind = filesystem_of(folder)
    if kind in NETWORK_FILESYSTEMS:
        raise NetworkFilesystem(folder, kind)


def filesystem_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the filesystem that a folder is on, or will be; None where nobody says."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place, deepest, found = folder.resolve(), -1, None
    for line in lines:
        fields = line.split()
        if len(fields) > 2 and place.is_relative_to(fields[1]):
            depth = len(Path(fields[1]).parts)
            if depth >= deepest:
                deepest, found = depth, fields[2]
    return found
