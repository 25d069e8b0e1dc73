"""One owner of a data folder: a lock that ends with its process, however that ends."""

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

NAME = "lock"  # in the server's own folder: who holds it


class FolderInUse(OSError):
    """Another process works on the data folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(
            f"the data folder {folder} is in use by {holder}; end that first, or name another "
            "folder with --data (ORRERY_DATA)"
        )


class FolderLock:
    """Holds a server's own folder (`DATA/.orrery`) until it is released; a context manager.

    The folder itself is locked, not a file in it that somebody may take for stale and delete. The
    kernel ties the lock to the process: it is free once that is gone, also by kill -9.

    Args:
        role: what holds it, for those who come later.

    Raises:
        FolderInUse: somebody holds it already. OSError: there is no such folder.
    """

    def __init__(self, state_folder: Path, role: str) -> None:
        self._folder = os.open(state_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._about = state_folder / NAME
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._folder)
            if not isinstance(error, BlockingIOError):
                raise
            found = holder_of(state_folder) or "another process"
            raise FolderInUse(state_folder.parent, found) from None
        about = {"role": role, "pid": os.getpid(), "host": socket.gethostname()}
        about["since"] = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        self._about.touch(mode=0o600)
        self._about.write_text(json.dumps(about), encoding="utf-8")

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        if self._folder >= 0:
            with contextlib.suppress(OSError):
                self._about.write_text("", encoding="utf-8")
            os.close(self._folder)
            self._folder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def holder_of(state_folder: Path) -> str | None:
    """Who holds a folder, in words; None where nobody does, or nobody can say."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        text = (state_folder / NAME).read_text(encoding="utf-8")
        return "{role} (process {pid} on {host}, since {since})".format(**json.loads(text))
    return None
