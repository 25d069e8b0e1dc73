"""What the server does from time to time by itself: call webhooks, delete files by policy."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from server.database.space import give_back
from server.database.trouble import failures_told
from server.database.writer import Database
from server.queue import workers
from server.queue.changes import Changes
from server.settings import ServerSettings
from server.store.kept_files import KeptFiles
from server.upkeep import retention
from server.upkeep.webhook_schedule import MOST_AT_ONCE, Delivery, due, settle
from server.upkeep.webhook_sending import CALL_TIMEOUT_S, Manner, send, signing_key

RETENTION_INTERVAL_S = 60.0
MOST_GIVEN_BACK = 100  # writes that give space back, each time: 200 MB
WEBHOOK_INTERVAL_S = 2.0  # between looks for calls that are due, when no job ended

logger = logging.getLogger(__name__)


class Chores:
    """Two endless tasks; what fails is tried again the next time."""

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        changes: Changes,
        last_seen: dict[str, float],
        files: KeptFiles,
    ) -> None:
        self._settings, self._database, self._changes = settings, database, changes
        self._last_seen, self._files = last_seen, files
        self._calls: dict[str, asyncio.Task[None]] = {}  # under way, by id
        self._undeleted = retention.Collected()  # no row names it any more
        self._callers = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="webhook")

    async def keep_tidy(self) -> None:
        """Delete what the policy does not keep, every minute, and note which workers are there."""
        while True:
            with failures_told(logger, "retention failed; trying again"):
                await self.note_workers()
                await self.collect()
                for _ in range(MOST_GIVEN_BACK):  # others' writes come between
                    if not await self._database.write(give_back):
                        break
            await asyncio.sleep(RETENTION_INTERVAL_S)

    async def note_workers(self) -> None:
        """Write down when workers were heard of, and forget those that are long gone."""
        seen = dict(self._last_seen)
        note = partial(workers.note_seen, last_seen=seen, now=time.time())
        await self._database.write(note)

    async def collect(self) -> None:
        """Delete what the policy does not keep, once."""
        settings = self._settings
        if not (settings.keep_every or settings.keep_days or settings.disk_quota_bytes):
            return
        collected = await self._database.write(
            lambda connection: retention.collect(connection, settings, now=time.time())
        )
        if collected.names:
            counts = len(collected.files), len(collected.folders)
            logger.info("retention deletes %d checkpoints and the files of %d jobs", *counts)
        todo = self._undeleted + collected
        if todo.names:
            delete = partial(retention.delete_files, self._files, todo)
            self._undeleted = await asyncio.to_thread(delete)
            if left := self._undeleted.names:
                logger.error(
                    "retention could not delete %s; is it mounted read-only? It is tried again "
                    "every minute until the server ends.",
                    ", ".join(left[:10]),
                )

    async def keep_calling(self) -> None:
        """Call the webhooks that are due, whenever a job ended and every other second."""
        with self._changes.subscribe(Changes.QUEUE) as subscription:
            while True:
                with failures_told(logger, "webhooks failed; trying again"):
                    await self.call()
                await subscription.wait(WEBHOOK_INTERVAL_S)

    async def call(self) -> None:
        """Begin every call that is due; a slow one holds up no other, and is ended in time."""
        room = MOST_AT_ONCE - len(self._calls)
        if room <= 0:
            return
        under_way = tuple(self._calls)
        calls = await self._database.read(
            lambda connection: due(connection, time.time(), under_way)
        )
        for delivery in calls[:room]:
            task = asyncio.create_task(self._deliver(delivery), name=delivery.id)
            self._calls[delivery.id] = task
            task.add_done_callback(lambda _, done=delivery.id: self._calls.pop(done, None))

    def _manner(self) -> Manner:
        settings = self._settings
        return Manner(
            private=settings.webhook_private,
            page=settings.public_url,
            mail_server=settings.mail_server,
            mail_from=settings.mail_from,
        )

    async def _deliver(self, delivery: Delivery) -> None:
        answered = False
        with failures_told(logger, f"webhook {delivery.id} failed"):
            key = signing_key(self._settings.webhook_key_path)
            call = partial(send, delivery, key, self._manner())
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    answered = await loop.run_in_executor(self._callers, call)
            except TimeoutError:
                logger.warning("webhook %s got no answer in time", delivery.id)
        await self._database.write(
            lambda connection: settle(connection, delivery, answered=answered, now=time.time())
        )
        self._changes.notify(delivery.job_id)
