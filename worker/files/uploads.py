"""Files of an attempt on their way to the server, beside the training, which never waits for them.

A file is sent in pieces, each as large as a few seconds take. What of it has come is known by the
server alone, which is asked after each interruption; so nothing is sent twice but what was under
way.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from server.wire.files import Arrived
from worker.back_off import BackOff
from worker.client import (
    FileRefused,
    LeaseEnded,
    PieceTooLarge,
    ServerRefused,
    Unreachable,
    WorkerClient,
)
from worker.spool import Record

FIRST_PIECE, LARGEST_PIECE = 2**20, 2**26  # bytes
LEAST_PIECE = 2**16  # of a proxy that takes no large bodies
PIECE_S = 2.0  # a piece that took less is followed by a larger one
SLICE = 2**20  # bytes that are read at once
MOST_REFUSALS = 5  # of one file

logger = logging.getLogger(__name__)


class Uploads:
    """The files of one attempt, in the order in which they were made.

    Args:
        data: the folder that their paths are relative to.
        keep: called with the place and the sha256 of each checkpoint that the server has.
    """

    def __init__(
        self,
        client: WorkerClient,
        lease_id: str,
        data: Path,
        keep: Callable[[Path, str], None],
    ) -> None:
        self._client, self._lease_id, self._data = client, lease_id, data
        self._keep = keep
        self._waiting: deque[Record] = deque()
        self._arrived: list[Record] = []
        self._offered: set[str] = set()
        self._failure: Exception | None = None
        self._news = threading.Condition()
        self._over = threading.Event()
        self._is_sending = False
        self._piece = FIRST_PIECE
        self._most_bytes = LARGEST_PIECE  # of a piece; less where a proxy takes less
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def offer(self, record: Record) -> None:
        """Another file, if it was not offered before; of rolling checkpoints only the newest is
        worth sending."""
        path = record["data"]["path"]
        with self._news:
            if path in self._offered:
                return
            self._offered.add(path)
            if record["data"].get("rolling"):
                kept = [each for each in self._waiting if not each["data"].get("rolling")]
                self._waiting = deque(kept)
            self._waiting.append(record)
            self._news.notify_all()

    def has_news(self) -> bool:
        """Whether `arrived` has something to say."""
        return bool(self._arrived) or self._failure is not None

    def arrived(self) -> list[Record]:
        """Files that the server has, and that were not confirmed.

        Raises:
            ServerRefused: it does not take one of them.
            OSError: one cannot be read.
        """
        with self._news:
            if self._failure is not None:
                raise self._failure
            return list(self._arrived)

    def confirm(self, told: int) -> None:
        """The first so many of those that arrived were reported."""
        with self._news:
            del self._arrived[:told]

    def wait(self, seconds: float) -> bool:
        """Wait for something to arrive; returns whether all that was offered is reported."""

        def is_news() -> bool:
            return bool(self._arrived or self._failure) or self._is_done()

        with self._news:
            self._news.wait_for(is_news, seconds)
            return self._is_done() and not self._arrived

    def drop(self) -> None:
        """Send no more than what has arrived."""
        self._over.set()  # before whoever waits is woken, to look at it
        with self._news:
            self._waiting.clear()
            self._news.notify_all()

    def close(self) -> None:
        """End; what is under way is not finished."""
        self.drop()
        self._thread.join()

    def _is_done(self) -> bool:
        return not self._waiting and not (self._is_sending and not self._over.is_set())

    def _next(self) -> Record | None:
        with self._news:
            self._is_sending = False
            self._news.notify_all()
            while not self._waiting:
                if self._over.is_set():
                    return None
                self._news.wait()
            self._is_sending = True
            return self._waiting.popleft()

    def _run(self) -> None:
        while (record := self._next()) is not None:
            try:
                self._bring(record)
            except FileNotFoundError:  # a rolling one that was replaced
                logger.info("%s is gone, and is not sent", record["data"]["path"])
            except LeaseEnded:  # of which the reports tell
                self.drop()
            except (ServerRefused, OSError) as error:
                with self._news:
                    self._failure = error
                    self._news.notify_all()
            else:
                with self._news:
                    self._arrived += [record] if not self._over.is_set() else []
                if record["kind"] == "checkpoint":
                    self._keep(self._data / record["data"]["path"], record["data"]["sha256"])

    def _bring(self, record: Record) -> None:
        """Send one file until all of it is there, as long as it takes."""
        about = record["data"]
        back_off, refusals = BackOff(self._over), 0
        with (self._data / about["path"]).open("rb") as file:
            come: Arrived | None = None
            while not self._over.is_set():
                try:
                    come = self._go_on(file, about["path"], about["bytes"], about["sha256"], come)
                except Unreachable:
                    back_off.wait()
                    come = None
                except PieceTooLarge:
                    if self._most_bytes == LEAST_PIECE:
                        raise
                    self._most_bytes = max(self._piece // 2, LEAST_PIECE)
                    self._piece = self._most_bytes
                    logger.info("pieces of files are %d bytes at most from now on", self._piece)
                    come = None
                except FileRefused:
                    refusals += 1
                    if refusals == MOST_REFUSALS:
                        raise
                    come = None
                else:
                    back_off.reset()
                    if come.is_whole:
                        return

    def _go_on(
        self, file: IO[bytes], path: str, size: int, sha256: str, come: Arrived | None
    ) -> Arrived:
        """One piece more; or, where nothing is known, how much is there."""
        if come is None:
            return self._client.has_come(self._lease_id, path, size, sha256)
        length = min(self._piece, size - come.bytes)
        file.seek(come.bytes)
        began = time.monotonic()
        come = self._client.bring(
            self._lease_id, path, size, sha256, come.bytes, length, _slices(file, length)
        )
        if time.monotonic() - began < PIECE_S:
            self._piece = min(2 * self._piece, self._most_bytes)
        else:
            self._piece = min(max(self._piece // 2, FIRST_PIECE), self._most_bytes)
        return come


def _slices(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0:
        part = file.read(min(SLICE, length))
        if not part:
            raise OSError("a file became shorter while it was sent")
        length -= len(part)
        yield part
