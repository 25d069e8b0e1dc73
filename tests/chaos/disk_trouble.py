"""The disk fails for a while, or for good: what was acknowledged is there, and what was not is told
as the disk's trouble, with when to come again.
"""

import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random

import httpx

from tests.chaos.proof import Counted
from tests.chaos.traced_server import NotStarted, traced

JOBS = 40  # submitted in a round
FIRST, LONGEST = (5, 60), 40  # call that fails, of its kind and thread, and how many do
TROUBLE = {503, 507}
SERVER = """
import sys
if sys.argv.pop(1) == "careless":
    from sqlalchemy.engine.default import DefaultDialect
    whole = DefaultDialect.do_commit
    def commit(self, connection):
        try:
            whole(self, connection)
        except Exception:
            connection.rollback()
    DefaultDialect.do_commit = commit
from server.cli.main import main
main()
"""


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is a server whose disk fails while jobs are submitted, and that is then killed."""
    found: list[str] = []
    refused = done = 0
    while done < rounds and (protected or not found):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            told, wrong = _one(random, Path(name), "careful" if protected else "careless")
        refused += told
        found += [] if wrong is None else [wrong]
        done += 1
    return Counted(done, len(found), f"{refused} submissions told of it", found)


def _one(random: Random, folder: Path, care: str) -> tuple[int, str | None]:
    """How many submissions were refused, and what was wrong."""
    call = random.choice(("pwrite64", "fdatasync"))
    error = random.choice(("EIO", "ENOSPC"))
    first = random.randrange(*FIRST)
    last = random.choice(("", str(first + random.randrange(LONGEST))))
    when = f"{first}..{last}" if last else f"{first}+"
    what = f"{call} {error} {when}"
    options = ["-o", "/dev/null", "-e", f"trace={call}"]
    options += ["-e", f"inject={call}:error={error}:when={when}"]
    acknowledged: set[str] = set()
    refused = 0
    try:
        with traced(folder, options, SERVER, care) as (client, server):
            for number in range(JOBS):
                answer = client.post(
                    "/v1/jobs", json={"config": {"epochs": 1}, "name": str(number)}
                )
                if answer.status_code == 201:
                    acknowledged.add(answer.json()["id"])
                elif answer.status_code in TROUBLE and "retry-after" in answer.headers:
                    refused += 1
                else:
                    return refused, f"{what}: answered {answer.status_code} {answer.text[:200]}"
            server.send_signal(signal.SIGKILL)
    except NotStarted:
        return 0, None  # it failed while the database was made: nothing was acknowledged
    except httpx.TransportError as trouble:
        return refused, f"{what}: {trouble!r}"
    lost = acknowledged - _on_record(folder)
    return refused, f"{what}: {len(lost)} of {len(acknowledged)} are lost" if lost else None


def _on_record(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "data" / ".orrery" / "orrery.db")) as connection:
        assert connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM jobs")}
