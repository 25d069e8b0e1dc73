"""Brings files of jobs that are over to the store, and takes them out of the data folder.

It keeps no books: what is in the data folder is still to be brought. A file is taken away here once
the store says that it has it, of the right size; what was interrupted begins again.
"""

import asyncio
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select, union_all

from server.data_folder import locate
from server.database.tables import artifacts, checkpoints, initial_conditions, jobs
from server.database.trouble import failures_told
from server.database.writer import Database
from server.errors import NotFound
from server.log_format import once_a_minute
from server.store.s3 import S3Store, StoreUnavailable
from server.wire.states import TERMINAL

INTERVAL_S = 10.0
FOLDERS = re.compile(r"(job|ic)_[0-9a-z]{26}")
RESUME = "resume"  # in an attempt's folder
AT_ONCE = 200  # folders of one look into the database
MOST_FAILURES = 3  # one after the other, of one round

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A file with a row."""

    owner: str  # the job, or itself where a user sent it
    path: str
    bytes: int


class Mover:
    """One endless task; what fails is tried again the next time."""

    def __init__(self, data: Path, database: Database, store: S3Store) -> None:
        self._data, self._database, self._store = data, database, store

    async def keep_moving(self) -> None:
        """Bring what is there, again and again."""
        while True:
            with failures_told(logger, "files could not be brought to the store; trying again"):
                await self.move()
            await asyncio.sleep(INTERVAL_S)

    async def move(self) -> int:
        """Bring what is there, once, as long as the store takes it; returns how many files."""
        moved = failures = 0
        folders = await asyncio.to_thread(self._folders)
        for start in range(0, len(folders), AT_ONCE):
            here = dict(folders[start : start + AT_ONCE])
            over, listed = await self._database.read(partial(_of_those_over, ids=list(here)))
            for file in await asyncio.to_thread(self._still_here, listed):
                try:
                    moved += await self._bring(file)
                    failures = 0
                except OSError as error:  # of the store, or of this file
                    text = "%s; the file stays here, and is brought later"
                    logger.warning(text, error, extra=once_a_minute("store"))
                    failures += 1
                if failures == MOST_FAILURES:
                    return moved
            await asyncio.to_thread(self._clear, [here[owner] for owner in over])
        return moved

    def _folders(self) -> list[tuple[str, str]]:
        """Folders of jobs, and of what users sent: their ids, and where they are."""
        found: list[tuple[str, str]] = []
        for group in self._data.iterdir():
            if group.name.startswith("."):
                continue
            with suppress(OSError):  # a file, or not ours to read
                names = [each.name for each in group.iterdir() if FOLDERS.fullmatch(each.name)]
                found += [(name, f"{group.name}/{name}") for name in names]
        return found

    def _still_here(self, listed: Sequence[Listed]) -> list[Listed]:
        return [file for file in listed if self._place_of(file) is not None]

    def _place_of(self, file: Listed) -> Path | None:
        try:
            return locate(self._data, file.path, file.bytes)
        except NotFound:
            return None

    async def _bring(self, file: Listed) -> bool:
        """Bring one.

        Raises:
            StoreUnavailable, OSError
        """
        place = await asyncio.to_thread(self._place_of, file)
        if place is None:
            return False
        size = await asyncio.to_thread(self._send, place, file.path)
        if size != file.bytes:
            raise StoreUnavailable(f"{file.path} has {size} bytes there, not {file.bytes}")
        if not await self._database.read(partial(_is_listed, file=file)):
            await asyncio.to_thread(self._store.remove, file.path)  # deleted meanwhile
            return False
        await asyncio.to_thread(place.unlink, missing_ok=True)
        return True

    def _send(self, place: Path, key: str) -> int | None:
        self._store.put(place, key)
        return self._store.size(key)

    def _clear(self, folders: Sequence[str]) -> None:
        """Take away what jobs that are over needed only to resume, and folders without a file."""
        for folder in folders:
            place = self._data / folder
            for rolling in place.glob(f"attempt-*/{RESUME}/*.pt"):
                rolling.unlink(missing_ok=True)
            for each, _, _ in os.walk(place, topdown=False):
                with suppress(OSError):  # not empty
                    Path(each).rmdir()


def _of_those_over(connection: Connection, ids: Sequence[str]) -> tuple[list[str], list[Listed]]:
    """Which of some jobs are over; and the files of those, and of what users sent, but for those
    that only serve to resume."""
    ended = select(jobs.c.id).where(jobs.c.id.in_(ids), jobs.c.status.in_(TERMINAL))
    over = list(connection.execute(ended).scalars())
    query = union_all(
        select(checkpoints.c.job_id, checkpoints.c.path, checkpoints.c.bytes).where(
            checkpoints.c.job_id.in_(over), ~checkpoints.c.rolling
        ),
        select(artifacts.c.job_id, artifacts.c.path, artifacts.c.bytes).where(
            artifacts.c.job_id.in_(over)
        ),
        select(
            initial_conditions.c.id, initial_conditions.c.path, initial_conditions.c.bytes
        ).where(initial_conditions.c.id.in_(ids)),
    )
    files = [Listed(*row) for row in connection.execute(query)]
    sent = {file.owner for file in files if file.owner.startswith("ic_")}
    return [*over, *sent], files


def _is_listed(connection: Connection, file: Listed) -> bool:
    of_job = [
        select(table.c.id).where(table.c.job_id == file.owner, table.c.path == file.path)
        for table in (checkpoints, artifacts)
    ]
    of_user = select(initial_conditions.c.id).where(initial_conditions.c.id == file.owner)
    return connection.execute(union_all(*of_job, of_user)).first() is not None
