"""How the files of an attempt get to the server: they are there already, or they are sent."""

from typing import Protocol

from worker.spool import Record


class FileTransport(Protocol):
    """What a reporter needs to know of an attempt's files. None of it waits, but `wait`."""

    def offer(self, record: Record) -> None:
        """Another file, if it was not offered before."""

    def has_news(self) -> bool:
        """Whether `arrived` has something to say."""
        ...

    def arrived(self) -> list[Record]:
        """Files that the server has, and that were not confirmed.

        Raises:
            ServerRefused: it does not take one of them.
            OSError: one cannot be read.
        """
        ...

    def confirm(self, told: int) -> None:
        """The first so many of those that arrived were reported."""

    def wait(self, seconds: float) -> bool:
        """Wait for something to arrive; returns whether all that was offered is reported."""
        ...

    def drop(self) -> None:
        """Send no more than what has arrived."""

    def close(self) -> None:
        """End; what is under way is not finished."""


class InPlace:
    """The server sees the folder: a file is there as soon as it is made."""

    def __init__(self) -> None:
        self._offered: set[str] = set()
        self._arrived: list[Record] = []

    def offer(self, record: Record) -> None:
        """It is there."""
        path = record["data"]["path"]
        if path not in self._offered:
            self._offered.add(path)
            self._arrived.append(record)

    def has_news(self) -> bool:
        """Whether some were not reported."""
        return bool(self._arrived)

    def arrived(self) -> list[Record]:
        """All that were offered, and were not reported."""
        return list(self._arrived)

    def confirm(self, told: int) -> None:
        """They were reported."""
        del self._arrived[:told]

    def wait(self, seconds: float) -> bool:
        """Whether all are reported; nothing is worth waiting for."""
        del seconds
        return not self._arrived

    def drop(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is under way."""
