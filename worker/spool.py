"""The file between a training process and its agent: one JSON record a line, appended, never
rewritten.

Training never waits for the network, and either side may die: a half-written last line is not a
record yet, and a reader that starts again reads again.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

Kind = Literal["begin", "epoch", "checkpoint", "artifact", "note", "outcome"]


class Record(TypedDict):
    """One line."""

    kind: Kind
    data: dict[str, Any]


RECORD = TypeAdapter(Record)


class SpoolWriter:
    """The training process's end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._broken = False

    def append(self, kind: Kind, data: dict[str, Any]) -> None:
        """Append a record; it survives the death of this process."""
        line = f"{json.dumps({'kind': kind, 'data': data}, allow_nan=False)}\n".encode()
        if self._broken:  # the rest of an earlier record is missing: do not add to it
            line = b"\n" + line
        self._broken = True
        while line:
            line = line[os.write(self._file, line) :]
        self._broken = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class SpoolReader:
    """The agent's end: hands out records in order, and again until they are confirmed."""

    def __init__(self, path: Path, confirmed: int = 0) -> None:
        self.path = path
        self.confirmed = confirmed  # bytes
        self._handed_out = confirmed

    def peek(self, most: int) -> list[Record]:
        """Up to `most` records after the last confirmed one; none beyond one that is damaged."""
        self._handed_out = self.confirmed
        records: list[Record] = []
        try:
            with self.path.open("rb") as file:
                file.seek(self.confirmed)
                for line in file:
                    record = _decode(line) if line.endswith(b"\n") else None
                    if len(records) == most or record is None:
                        break
                    records.append(record)
                    self._handed_out += len(line)
        except FileNotFoundError:
            return []
        return records

    def confirm(self) -> None:
        """What was handed out last is the server's now."""
        self.confirmed = self._handed_out


def recorded_outcome(path: Path) -> dict[str, Any] | None:
    """The outcome at the end of a spool, if it was written.

    A success counts only if every record before it can be read.
    """
    whole = [r for r in SpoolReader(path).peek(sys.maxsize) if r["kind"] != "note"]
    if whole and whole[-1]["kind"] == "outcome":
        return whole[-1]["data"]
    try:
        last = _decode(path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2])
    except FileNotFoundError:
        return None
    failed = last is not None and last["kind"] == "outcome" and last["data"]["status"] == "failed"
    return last["data"] if last is not None and failed else None


def _decode(line: bytes) -> Record | None:
    """A line's record; None for what a full disk or a power cut left of one."""
    try:
        return RECORD.validate_json(line)
    except ValueError:
        return None


class LogReader:
    """Reads a growing file in pieces, confirmed one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0  # of the first byte that is not confirmed

    def peek(self, most: int) -> bytes:
        """Up to `most` bytes after the confirmed ones."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                return file.read(most)
        except FileNotFoundError:
            return b""

    def confirm(self, length: int) -> None:
        """The first `length` bytes of the last piece are the server's now."""
        self.offset += length


class ProgressFile:
    """A tiny file that shows what a process is doing and that it is alive."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, sequence: int, phase: str) -> None:
        """Say where the process is; `sequence` grows as long as it makes progress."""
        self._path.write_text(f"{sequence} {phase}\n", encoding="ascii")

    def read(self) -> tuple[int, str] | None:
        """What was said last, or None."""
        try:
            sequence, phase = self._path.read_text(encoding="ascii").split()
            return int(sequence), phase
        except (FileNotFoundError, ValueError):  # not there yet, or half written
            return None
