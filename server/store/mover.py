"""Brings files that are listed to the store, and takes them out of the data folder.

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
from server.store.s3 import S3Store, StoreUnavailable
from server.wire.states import TERMINAL

INTERVAL_S = 10.0
FOLDERS = re.compile(r"(?P<id>(job|ic)_[0-9a-z]{26})")
RESUME = "resume"  # in an attempt's folder
AT_ONCE = 200  # folders of one look into the database

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
        self._is_away = False

    async def keep_moving(self) -> None:
        """Bring what is there, again and again."""
        while True:
            with failures_told(logger, "files could not be brought to the store; trying again"):
                try:
                    await self.move()
                except StoreUnavailable as error:
                    if not self._is_away:
                        logger.warning("%s; files stay here until it answers", error)
                    self._is_away = True
                else:
                    self._is_away = False
            await asyncio.sleep(INTERVAL_S)

    async def move(self) -> int:
        """Bring what is there, once; returns how many files.

        Raises:
            StoreUnavailable
        """
        moved = 0
        folders = await asyncio.to_thread(self._folders)
        for start in range(0, len(folders), AT_ONCE):
            here = dict(folders[start : start + AT_ONCE])
            ids = list(here)
            for file in await self._database.read(partial(_listed, owners=ids)):
                moved += await self._bring(file)
            over = await self._database.read(partial(_over, owners=ids))
            for owner in over:
                await asyncio.to_thread(self._clear, here[owner])
        return moved

    def _folders(self) -> list[tuple[str, str]]:
        """Folders of jobs, and of what users sent: their ids, and where they are."""
        found: list[tuple[str, str]] = []
        for group in self._data.iterdir():
            if group.is_dir() and not group.name.startswith("."):
                names = [each.name for each in group.iterdir() if FOLDERS.fullmatch(each.name)]
                found += [(name, f"{group.name}/{name}") for name in names]
        return found

    async def _bring(self, file: Listed) -> bool:
        try:
            place = locate(self._data, file.path, file.bytes)
        except NotFound:  # it is there already
            return False
        await asyncio.to_thread(self._store.put, place, file.path)
        size = await asyncio.to_thread(self._store.size, file.path)
        if size != file.bytes:
            raise StoreUnavailable(f"{file.path} has {size} bytes there, not {file.bytes}")
        if file not in await self._database.read(partial(_listed, owners=[file.owner])):
            await asyncio.to_thread(self._store.remove, file.path)  # deleted meanwhile
            return False
        place.unlink(missing_ok=True)
        return True

    def _clear(self, relative: str) -> None:
        """Take away what a job that is over needed only to resume, and folders without a file."""
        place = self._data / relative
        for rolling in place.glob(f"attempt-*/{RESUME}/*.pt"):
            rolling.unlink(missing_ok=True)
        for folder, _, _ in os.walk(place, topdown=False):
            with suppress(OSError):  # not empty
                Path(folder).rmdir()


def _listed(connection: Connection, owners: Sequence[str]) -> list[Listed]:
    """Files of some jobs, and some that users sent, but for those that only serve to resume."""
    query = union_all(
        select(checkpoints.c.job_id, checkpoints.c.path, checkpoints.c.bytes).where(
            checkpoints.c.job_id.in_(owners), ~checkpoints.c.rolling
        ),
        select(artifacts.c.job_id, artifacts.c.path, artifacts.c.bytes).where(
            artifacts.c.job_id.in_(owners)
        ),
        select(
            initial_conditions.c.id, initial_conditions.c.path, initial_conditions.c.bytes
        ).where(initial_conditions.c.id.in_(owners)),
    )
    return [Listed(*row) for row in connection.execute(query)]


def _over(connection: Connection, owners: Sequence[str]) -> list[str]:
    """Which of some jobs are over; what a user sent is so at once."""
    query = select(jobs.c.id).where(jobs.c.id.in_(owners), jobs.c.status.in_(TERMINAL))
    sent = [owner for owner in owners if owner.startswith("ic_")]
    return [*connection.execute(query).scalars(), *sent]
