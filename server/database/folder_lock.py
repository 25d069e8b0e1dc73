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

NAME = "lock"  # in the server's own folder


class FolderInUse(OSError):
    """Another process works on the data folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(
            f"the data folder {folder} is in use by {holder}; end that first, or name another "
            "folder with --data (ORRERY_DATA)"
        )


class FolderLock:
    """Holds a server's own folder (`DATA/.orrery`) until it is released; a context manager.

    The kernel ties it to the open file: it is free once the process is gone, also by kill -9.

    Args:
        role: what holds it, for those who come later.

    Raises:
        FolderInUse: somebody holds it already. OSError: there is no such folder.
    """

    def __init__(self, state_folder: Path, role: str) -> None:
        self._file = os.open(state_folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if not isinstance(error, BlockingIOError):
                raise
            found = holder_of(state_folder) or "another process"
            raise FolderInUse(state_folder.parent, found) from None
        about = {"role": role, "pid": os.getpid(), "host": socket.gethostname()}
        about["since"] = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(about).encode(), 0)

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

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
