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

from nbody.durable_file import is_at
from server.wire.workers import Assignment
from worker.spool import SpoolReader

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
        (self.folder / "over").unlink(missing_ok=True)
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
        """Whether W&B has all of it: what was told last is the end of the last spool."""
        spools = self.spools()
        if not spools:
            return True
        try:
            attempt, told = (self.folder / "told").read_text(encoding="ascii").split()
            last = SpoolReader(spools[-1], int(told))
        except (FileNotFoundError, ValueError):  # not there yet, or half written
            return False
        return attempt == spools[-1].name and not last.peek(1)

    def mark_untold(self) -> None:
        """It is being told anew, and may be half told at any moment."""
        (self.folder / "told").unlink(missing_ok=True)

    def mark_told(self, last: SpoolReader) -> None:
        """W&B has all attempts up to this one, and all records of it that were confirmed."""
        content = f"{last.path.name} {last.confirmed}"
        (self.folder / "told").write_text(content, encoding="ascii")

    def mark_over(self) -> None:
        """No attempt will follow."""
        if self.folder.is_dir():
            (self.folder / "over").touch()

    def remove(self) -> None:
        """Nobody needs it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_settled(self) -> None:
        """Remove it if all is told and no attempt will follow, or if it is too old.

        Who tells it at this moment does it thereafter.
        """
        with self.held(wait=False) as mine:
            if mine and (self._is_old() or (self.is_told and (self.folder / "over").exists())):
                self.remove()

    @contextmanager
    def held(self, *, wait: bool) -> Generator[bool]:
        """Be the one process that tells it; yields False where it was told and removed, and without
        `wait` also where another one is.
        """
        path = self.folder / "lock"
        try:
            lock = path.open("w")
        except FileNotFoundError:
            yield False
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield is_at(path, lock.fileno())

    def _is_old(self) -> bool:
        return time.time() - self.folder.stat().st_mtime > KEPT_S


def untold(data: Path) -> list[Journal]:
    """Journals that W&B has not all of and nobody tells; those that are settled are removed."""
    found: list[Journal] = []
    for journal in map(Journal, sorted((data.resolve() / PLACE).glob("job_*"))):
        journal.remove_if_settled()
        with journal.held(wait=False) as mine:
            if mine and not journal.is_told:
                found.append(journal)
    return found


def start_telling(data: Path, job: str | None = None) -> "subprocess.Popen[bytes]":
    """A process that follows the last attempt of a job, or that tells whatever is left over.

    It can hang without anyone waiting.
    """
    command = [sys.executable, "-P", "-m", PROCESS, str(data.resolve())]
    command += [] if job is None else [job]
    return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
