"""Which commit a config file is of."""

import subprocess
from pathlib import Path

TIMEOUT_S = 5.0


def git_commit(path: Path) -> str | None:
    """The commit of the folder that a file is in, with `-dirty` where the files that it knows were
    changed since; None where it is in no repository."""
    folder = path.resolve().parent
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
