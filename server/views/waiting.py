"""Why a job waits that no worker takes, in words."""

import time
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row, select

from server.database.tables import workers
from server.queue.fair_turns import busy_owners
from server.queue.workers import ROOM, memory_of
from server.wire.states import JobStatus

HEARD_S = 300.0  # a worker is there if it was heard of so lately; that is noted once a minute
GIB = 2**30


class Waiting:
    """What holds jobs up, besides those before them.

    Args:
        most_running: jobs of an owner that may run at a time; 0 means no limit.
    """

    def __init__(self, connection: Connection, most_running: int) -> None:
        self._connection, self._most_running = connection, most_running

    def reason(self, job: Row[Any]) -> str | None:
        """What a job waits for, besides its turn."""
        if job.status != JobStatus.QUEUED:
            return None
        return self.reason_of(job.owner_id, job.device, job.memory_bytes)

    def reason_of(self, owner_id: str | None, device: str, memory_bytes: int) -> str | None:
        """What a job of somebody's would wait for on a device, besides its turn."""
        if owner_id in self._busy_owners:
            most = f"{self._most_running} running jobs (ORRERY_MAX_RUNNING_JOBS)"
            return f"the end of one of its owner's {most}"
        if not self._memories:
            return (
                "a worker: none was heard of in the last five minutes (`python -m worker` is one)"
            )
        most = max(memory[device] for memory in self._memories)
        if not most:
            here = len(self._memories)
            return f"a worker with a GPU: none of {here} has one; or set device to auto or cpu"
        if memory_bytes >= ROOM * most:
            needs, has = (f"{size / GIB:,.1f} GiB" for size in (memory_bytes, most))
            return (
                f"a worker with more memory: it needs about {needs}, the largest has {has}; or use "
                "a smaller network, batch or number of orbits"
            )
        return None

    @cached_property
    def _memories(self) -> list[dict[str, int]]:
        """Of the workers that may take jobs, by device [bytes]."""
        here = (
            workers.c.last_seen_at > time.time() - HEARD_S,
            workers.c.refusal.is_(None),
            workers.c.draining.is_(False),
        )
        rows = self._connection.execute(select(workers).where(*here))
        return [memory_of(row) for row in rows]

    @cached_property
    def _busy_owners(self) -> set[str]:
        """Those who have as many jobs running as they may."""
        if not self._most_running:
            return set()
        return set(self._connection.scalars(busy_owners(self._most_running)))
