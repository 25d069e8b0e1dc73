"""What Weights & Biases is to be told of each job: the spools of its attempts, kept until it was.

A job has a folder in the data folder, whichever worker has the job; one process at a time reads it
and talks to W&B (`worker.child.wandb`). Whatever ends that process, another one begins again: the
next attempt's, or one that the agent starts for all that is left over.
"""

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.wire.workers import Assignment

PLACE = Path(".orrery") / "wandb"
PROCESS = "worker.child.wandb"
KEPT_S = 30 * 86400.0  # of a job that ended elsewhere, or that W&B never took


@dataclass(frozen=True)
class Journal:
    """The folder of one job."""

    folder: Path

    @classmethod
    def of(cls, data: Path, job: str) -> "Journal":
        """The journal of a job."""
        return cls(data.resolve() / PLACE / job)

    def add(self, assignment: Assignment, spool: Path) -> None:
        """Another attempt, whose records are to be told.

        Raises:
            OSError
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.mark_untold()
        payload = assignment.model_dump_json(by_alias=True).encode()
        (self.folder / "assignment.json").write_bytes(payload)
        (self.folder / f"attempt-{assignment.attempt:06}.jsonl").hardlink_to(spool)

    def assignment(self) -> Assignment:
        """The last attempt's."""
        return Assignment.model_validate_json((self.folder / "assignment.json").read_bytes())

    def spools(self) -> list[Path]:
        """Of all attempts, in order."""
        return sorted(self.folder.glob("attempt-*.jsonl"))

    @property
    def is_told(self) -> bool:
        """Whether W&B has all of it."""
        return (self.folder / "told").exists()

    def mark_untold(self) -> None:
        """There is more to tell."""
        (self.folder / "told").unlink(missing_ok=True)

    def mark_told(self) -> None:
        """W&B has all that there is."""
        (self.folder / "told").touch()

    def mark_over(self) -> None:
        """No attempt will follow."""
        if self.folder.is_dir():
            (self.folder / "over").touch()

    def remove_if_settled(self) -> bool:
        """Remove it if nobody needs it any more; returns whether nothing is left to do."""
        try:
            old = time.time() - self.folder.stat().st_mtime > KEPT_S
            if old or (self.is_told and (self.folder / "over").exists()):
                shutil.rmtree(self.folder, ignore_errors=True)
        except FileNotFoundError:
            return True
        return self.is_told or not self.folder.exists()

    @contextmanager
    def held(self, *, wait: bool) -> Generator[bool]:
        """Be the one process that tells it; without `wait` yields False where another one is."""
        try:
            lock = (self.folder / "lock").open("w")
        except FileNotFoundError:  # it was told and removed
            yield False
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                mine = True
            except BlockingIOError:
                mine = False
            yield mine


def untold(data: Path) -> list[Journal]:
    """Journals that W&B has not all of and nobody tells; those that are settled are removed."""
    found: list[Journal] = []
    for journal in map(Journal, sorted((data.resolve() / PLACE).glob("job_*"))):
        with journal.held(wait=False) as mine:
            if mine and not journal.remove_if_settled():
                found.append(journal)
    return found


def start_telling(data: Path, job: str | None = None) -> "subprocess.Popen[bytes]":
    """A process that follows the last attempt of a job, or that tells whatever is left over.

    It can hang without anyone waiting.
    """
    command = [sys.executable, "-P", "-m", PROCESS, str(data.resolve())]
    command += [] if job is None else [job]
    return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
