"""What the server does from time to time by itself: call webhooks, delete files by policy."""

import asyncio
import logging
import time
from functools import partial

from server import retention, webhooks
from server.changes import Changes
from server.database import Database
from server.settings import ServerSettings

RETENTION_INTERVAL_S = 60.0
WEBHOOK_INTERVAL_S = 2.0  # between looks for calls that are due, when no job ended

logger = logging.getLogger(__name__)


class Chores:
    """Two endless tasks; what fails is tried again the next time."""

    def __init__(self, settings: ServerSettings, database: Database, changes: Changes) -> None:
        self._settings, self._database, self._changes = settings, database, changes

    async def keep_tidy(self) -> None:
        """Delete what the policy does not keep, every minute."""
        while True:
            try:
                await self.collect()
            except Exception:
                logger.exception("retention failed; trying again")
            await asyncio.sleep(RETENTION_INTERVAL_S)

    async def collect(self) -> None:
        """Delete what the policy does not keep, once."""
        settings = self._settings
        if not (settings.keep_every or settings.keep_days or settings.disk_quota_bytes):
            return
        collected = await self._database.write(
            lambda connection: retention.collect(connection, settings, now=time.time())
        )
        if collected.files or collected.folders:
            counts = len(collected.files), len(collected.folders)
            logger.info("retention deletes %d checkpoints and the files of %d jobs", *counts)
            await asyncio.to_thread(retention.delete_files, settings.data, collected)

    async def keep_calling(self) -> None:
        """Call the webhooks that are due, whenever a job ended and every other second."""
        with self._changes.subscribe(Changes.QUEUE) as subscription:
            while True:
                try:
                    await self.call()
                except Exception:
                    logger.exception("webhooks failed; trying again")
                await subscription.wait(WEBHOOK_INTERVAL_S)

    async def call(self) -> None:
        """Make every call that is due."""
        calls = await self._database.read(lambda connection: webhooks.due(connection, time.time()))
        await asyncio.gather(*map(self._deliver, calls))

    async def _deliver(self, delivery: webhooks.Delivery) -> None:
        key = await asyncio.to_thread(webhooks.signing_key, self._settings.webhook_key_path)
        send = partial(webhooks.send, delivery, key, private=self._settings.webhook_private)
        answered = await asyncio.to_thread(send)
        await self._database.write(
            lambda connection: webhooks.settle(
                connection, delivery, answered=answered, now=time.time()
            )
        )
        self._changes.notify(delivery.job_id)
