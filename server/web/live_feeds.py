"""What changes, found once for all who want the same, and told to some of them at a time."""

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, select

from server.database.tables import jobs
from server.database.trouble import failures_told
from server.errors import Stopping
from server.queue.changes import Changes
from server.service import Service
from server.views import jobs as job_views
from server.web.routes.stream import message
from server.wire.columns import JobColumn

INTERVAL_S = 1.0  # between looks: what changes meanwhile is told together
TOLD_AT_ONCE, PAUSE_S = 8, 0.004  # others' requests come between
MOST_TOLD = 200  # changed jobs; of more the client looks for itself
MOST_WAITING = 4  # messages for a client that does not take them
JOBS, QUEUE = "jobs", "queue"
EVERYTHING = message("jobs", {"data": [], "gone": [], "all": True}) + message("queue", {})

logger = logging.getLogger(__name__)


class Want(NamedTuple):
    """What somebody wants to hear of.

    Attributes:
        topics: `jobs`, `queue`, or ids of jobs.
        columns: that jobs are told with.
        owner_id: whose jobs; None: everybody's.
    """

    topics: frozenset[str]
    columns: tuple[str, ...]
    owner_id: str | None


class LiveFeeds:
    """A feed for each thing that is wanted, as long as somebody wants it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._feeds: dict[Want, _Feed] = {}

    @contextmanager
    def subscribe(self, want: Want) -> Generator[asyncio.Queue[str]]:
        """Messages from now on; an empty one is the last, where the server stops."""
        feed = self._feeds.get(want)
        if feed is None or feed.task.done():
            feed = self._feeds[want] = _Feed(self._service, want)
        messages: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        feed.hearers[messages] = None
        try:
            yield messages
        finally:
            feed.hearers.pop(messages)
            if not feed.hearers:
                feed.task.cancel()
                if self._feeds.get(want) is feed:
                    self._feeds.pop(want)


class _Feed:
    """What changes of one thing that is wanted."""

    def __init__(self, service: Service, want: Want) -> None:
        self._service, self._want = service, want
        self.hearers: dict[asyncio.Queue[str], None] = {}
        self.task = asyncio.create_task(self._run(), name="live-feed")

    async def _run(self) -> None:
        changes = self._service.changes
        seen = changes.count
        with changes.subscribe("the server's end") as end:
            while True:
                try:
                    await end.wait(INTERVAL_S)
                except Stopping:
                    self._give("", list(self.hearers))
                    return
                changed, seen = changes.since(seen), changes.count
                told = EVERYTHING  # also where the look fails
                with failures_told(logger, "what changed could not be looked at"):
                    told = await self._look(changed)
                if told:
                    await self._tell(told)

    async def _tell(self, told: str) -> None:
        waiting = list(self.hearers)
        for begins in range(0, len(waiting), TOLD_AT_ONCE):
            self._give(told, waiting[begins : begins + TOLD_AT_ONCE])
            await asyncio.sleep(PAUSE_S)

    @staticmethod
    def _give(told: str, hearers: list[asyncio.Queue[str]]) -> None:
        for messages in hearers:
            if messages.full():  # whoever does not listen looks at everything once it does
                while not messages.empty():
                    messages.get_nowait()
                messages.put_nowait(EVERYTHING)
            messages.put_nowait(told)

    async def _look(self, changed: set[str] | None) -> str:
        """What changed, as messages; empty where nothing did that is wanted."""
        if changed is None:
            return EVERYTHING
        topics, columns, owner_id = self._want
        told = message("queue", {}) if QUEUE in topics and Changes.QUEUE in changed else ""
        wanted = {topic for topic in changed if topic.startswith("job_")}
        if JOBS not in topics:
            wanted &= topics
        if len(wanted) > MOST_TOLD:
            return EVERYTHING
        if wanted:
            shown = {column: JobColumn.parse(column) for column in columns}
            look = partial(_changed_jobs, sorted(wanted), shown, owner_id)
            told += await self._service.database.read(look)
        return told


def _changed_jobs(
    ids: list[str], columns: dict[str, JobColumn], owner_id: str | None, connection: Connection
) -> str:
    """Some jobs as a message; nothing of those that the caller may not see."""
    found = job_views.jobs_by_id(connection, ids, columns, owner_id)
    there = set(connection.execute(select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars())
    data = [job.model_dump(mode="json") for job in found]
    gone = [job_id for job_id in ids if job_id not in there]
    if not data and not gone:
        return ""
    return message("jobs", {"data": data, "gone": gone, "all": False})
