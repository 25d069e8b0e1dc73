"""The power fails at any moment: what was acknowledged is there, and the database is whole.

Nobody can cut the power twenty thousand times. But what a cut can leave behind follows from the
calls that the server made: strace records them once, and each cut is made of the record. Up to the
last sync of a file all its writes are there; each one since is there, or not, or in part, sector by
sector, in any combination, for the disk may take them in any order. A file that was made is there
once its folder was synced.
"""

import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.proof import Counted
from tests.chaos.traced_server import traced

CALLS = "openat,pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate,unlink,unlinkat"
JOBS = 60  # submitted while it is recorded
SECTOR = 512
TRACE_TIMEOUT_S = 60.0
SERVER = """
import sys
from server.database import engines
engines.SYNCHRONOUS = sys.argv.pop(1)
from server.cli.main import main
main()
"""
LINE = re.compile(r"^(\d+) +(\w+)\((.*)$", re.DOTALL)
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
FILE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
OFFSET = re.compile(r", \d+, (\d+)")  # after the data: bytes, and where
ACKNOWLEDGED = re.compile(rb'HTTP/1\.1 201.*?"id":"(job_[0-9a-z]{26})"', re.DOTALL)


@dataclass(frozen=True)
class Call:
    """One thing that the server did: to a file of the database, or an answer that it gave."""

    what: str  # made, write, size, sync, gone, told
    name: str = ""  # of the file; for `sync` of the folder "."
    data: bytes = b""
    at: int = 0


@dataclass
class Disk:
    """What is on the disk for certain, and what may be."""

    synced: dict[str, bytes] = field(default_factory=dict[str, bytes])
    pending: dict[str, list[Call]] = field(default_factory=dict[str, list[Call]])
    listed: set[str] = field(default_factory=set[str])  # in the folder for certain
    told: set[str] = field(default_factory=set[str])  # jobs that were acknowledged

    def do(self, call: Call) -> None:
        """Go on by one call."""
        if call.what == "told":
            self.told.add(call.name)
        elif call.what == "made":
            self.synced.setdefault(call.name, b"")
            self.pending.setdefault(call.name, [])
        elif call.what == "gone":
            for known in (self.synced, self.pending):
                known.pop(call.name, None)
            self.listed.discard(call.name)
        elif call.what == "sync" and call.name == ".":
            self.listed |= self.synced.keys()
        elif call.what == "sync":
            for write in self.pending.get(call.name, ()):
                self.synced[call.name] = _after(self.synced[call.name], write)
            self.pending[call.name] = []
        else:
            self.pending.setdefault(call.name, []).append(call)

    def cut(self, random: Random) -> dict[str, bytes]:
        """The files as a cut here may leave them."""
        found: dict[str, bytes] = {}
        for name, content in self.synced.items():
            if name not in self.listed and random.random() < 0.5:
                continue
            for write in self.pending.get(name, ()):
                content = _perhaps(random, content, write)
            found[name] = content
        return found


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Cuts at any call of one record of a server that takes jobs."""
    calls = list(_read(_record(folder, "FULL" if protected else "OFF"), folder))
    places = sorted(random.randrange(len(calls) // 4, len(calls)) for _ in range(rounds))
    disk, done, broken = Disk(), 0, 0
    for place in places:
        while done < place:
            disk.do(calls[done])
            done += 1
        broken += not _holds(disk.cut(random), disk.told)
    assert disk.told, "no acknowledgement was recorded"
    return Counted(rounds, broken)


def _record(folder: Path, synchronous: str) -> Path:
    """Let a server take jobs under strace; returns the trace."""
    trace = folder / "trace"
    options = ["-y", "-xx", "-s", "10000000", "-e", f"trace={CALLS}", "-o", str(trace)]
    with traced(folder, options, SERVER, synchronous) as (client, server):
        for number in range(JOBS):
            body = {"config": {"epochs": 1}, "name": f"job {number}"}
            client.post("/v1/jobs", json=body).raise_for_status()
    deadline = time.monotonic() + TRACE_TIMEOUT_S
    while not _is_written(trace, server.pid):  # strace is a process of its own
        assert time.monotonic() < deadline, "the trace does not end"
        time.sleep(0.05)
    return trace


def _is_written(trace: Path, process: int) -> bool:
    """Whether a trace ends with the end of a process."""
    with trace.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        return re.search(rb"^%d +\+\+\+ " % process, file.read(), re.MULTILINE) is not None


def _read(trace: Path, folder: Path) -> Iterator[Call]:
    """The calls of a trace that matter. A sync counts when it ends, all else when it begins."""
    home = str((folder / "data" / ".orrery").resolve())
    syncing: dict[str, str] = {}
    for line in trace.read_text(encoding="ascii", errors="replace").splitlines():
        if (resumed := RESUMED.match(line)) is not None:
            if (name := syncing.pop(resumed[1], None)) is not None:
                yield Call("sync", name)
            continue
        match = LINE.match(line)
        if match is None:
            continue
        process, what, rest = match.groups()
        if what in {"fsync", "fdatasync"}:
            place = FILE.match(rest)
            name = None if place is None else _name(_bytes(place[1]).decode(), home)
            if name is not None and "unfinished" in rest:
                syncing[process] = name
            elif name is not None:
                yield Call("sync", name)
        else:
            yield from _call(what, rest, home)


def _call(what: str, rest: str, home: str) -> Iterator[Call]:
    texts = [_bytes(text) for text in TEXT.findall(rest)]
    place = FILE.match(rest)
    name = None if place is None else _name(_bytes(place[1]).decode(errors="replace"), home)
    if what in {"openat", "unlink", "unlinkat"}:
        name = _name(texts[0].decode(), home) if texts else None
        if name is not None and name != ".":
            made = what == "openat" and "O_CREAT" in rest
            if made or what != "openat":
                yield Call("made" if made else "gone", name)
    elif name is not None and what == "pwrite64":
        offset = OFFSET.search(rest.rpartition('"')[2])
        yield Call("write", name, texts[0], int(offset[1]) if offset else 0)
    elif name is not None and what == "ftruncate":
        yield Call("size", name, at=int(re.split(r"[ ),]+", rest.partition(", ")[2])[0]))
    elif name is None:
        for found in ACKNOWLEDGED.finditer(b"".join(texts)):
            yield Call("told", found[1].decode())


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _name(path: str, home: str) -> str | None:
    """Of a file of the database; "." is the folder."""
    if path == home:
        return "."
    name = path.removeprefix(f"{home}/")
    is_ours = path != name and name.startswith("orrery.db") and not name.endswith("-shm")
    return name if is_ours else None


def _after(content: bytes, write: Call) -> bytes:
    if write.what == "size":
        return content[: write.at].ljust(write.at, b"\0")
    content = content.ljust(write.at, b"\0")
    return content[: write.at] + write.data + content[write.at + len(write.data) :]


def _perhaps(random: Random, content: bytes, write: Call) -> bytes:
    """A write that is there, or not, or in some of its sectors."""
    fate = random.random()
    if fate < 0.4:
        return content
    if fate < 0.8 or write.what == "size" or len(write.data) <= SECTOR:
        return _after(content, write)
    for begin in range(0, len(write.data), SECTOR):
        if random.random() < 0.5:
            part = write.data[begin : begin + SECTOR]
            content = _after(content, Call("write", write.name, part, write.at + begin))
    return content


def _holds(files: dict[str, bytes], told: set[str]) -> bool:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        try:
            with closing(sqlite3.connect(folder / "orrery.db")) as connection:
                found = {row[0] for row in connection.execute("SELECT id FROM jobs")}
                (whole,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError:
            return not told
        return whole == "ok" and told <= found
