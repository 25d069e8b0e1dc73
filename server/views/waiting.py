"""Why a job waits that no worker takes, in words."""

import math
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Row, func, select

from server.database.tables import attempts, jobs, workers
from server.queue.fair_turns import busy_owners
from server.queue.workers import ROOM, gpu_bytes_of, memory_of
from server.wire.jobs import Requirements, label_texts
from server.wire.states import LEASED, JobStatus

HEARD_S = 300.0  # a worker is there if it was heard of so lately; that is noted once a minute
TRUSTED_S = 1.0
GIB = 2**30


@dataclass(frozen=True)
class Alike:
    """Workers that may take the same jobs.

    Attributes:
        memory: that jobs may use, by device [bytes].
        labels: that jobs may ask for, each as one text.
        gpu_bytes: of a GPU that jobs may ask for.
        trouble: why they take none; None: they do.
        name, host: of one of them.
        slots: of each, by its id.
    """

    memory: dict[str, int]
    labels: frozenset[str]
    gpu_bytes: int
    trouble: str | None
    name: str
    host: str
    slots: dict[str, int] = field(default_factory=dict)


class WorkersHere:
    """All of those, as they were a moment ago: who submits a thousand jobs does not wait for a
    thousand looks at a thousand workers."""

    def __init__(self) -> None:
        self._seen: tuple[float, list[Alike]] = (-math.inf, [])

    def forget(self) -> None:
        """Look anew: one came, left, or takes other jobs."""
        self._seen = (-math.inf, [])

    def of(self, connection: Connection) -> list[Alike]:
        """Those that there are."""
        at, found = self._seen
        if time.monotonic() - at > TRUSTED_S:
            found = _sorts(connection)
            self._seen = (time.monotonic(), found)
        return found


def _sorts(connection: Connection) -> list[Alike]:
    here = (
        workers.c.last_seen_at > time.time() - HEARD_S,
        workers.c.left_at.is_(None),
        workers.c.refusal.is_(None),
        workers.c.draining.is_(False),
    )
    found: dict[Hashable, Alike] = {}
    for row in connection.execute(select(workers).where(*here)):
        memory, labels, gpu = memory_of(row), frozenset(label_texts(row.labels)), gpu_bytes_of(row)
        sort = tuple(memory.values()), labels, gpu, row.trouble
        alike = found.setdefault(sort, Alike(memory, labels, gpu, row.trouble, row.name, row.host))
        alike.slots[row.id] = row.slots
    return list(found.values())


class Waiting:
    """What holds jobs up, besides those before them.

    Args:
        most_running: jobs of an owner that may run at a time; 0 means no limit.
    """

    def __init__(self, connection: Connection, most_running: int, here: WorkersHere) -> None:
        self._connection, self._most_running = connection, most_running
        self._workers_here = here

    def reason(self, job: Row[Any]) -> str | None:
        """What a job waits for, besides its turn."""
        if job.status != JobStatus.QUEUED:
            return None
        requires = Requirements.model_validate(job.requires)
        return self.reason_of(job.owner_id, job.device, job.memory_bytes, requires)

    def reason_of(
        self, owner_id: str | None, device: str, memory_bytes: int, requires: Requirements
    ) -> str | None:
        """What a job of somebody's would wait for on a device, besides its turn."""
        if owner_id in self._busy_owners:
            most = f"{self._most_running} running jobs (ORRERY_MAX_RUNNING_JOBS)"
            return f"the end of one of its owner's {most}"
        here = self._here
        if not here:
            return (
                "a worker: none is there that was heard of in the last five minutes (`orrery work` "
                "starts one)"
            )
        needed = requires.needed_labels
        labelled = [each for each in here if each.labels.issuperset(needed)]
        if not labelled:
            labels = ", ".join(needed)
            return f"a worker with the labels {labels}: none of {_count(here)} has all of them"
        if requires.gpu_bytes:
            device = "cuda"
        fit = [each.memory[device] for each in labelled if each.trouble is None]
        unfit = [each for each in labelled if each.trouble and each.memory[device]]
        most = max(fit, default=0)
        if not most and unfit:
            name, host = unfit[0].name, unfit[0].host
            return f"a worker that is fit: {name} on {host} has {unfit[0].trouble}"
        if not most:
            instead = "" if requires.gpu_bytes else "; or set device to auto or cpu"
            return f"a worker with a GPU: none of {_count(labelled)} has one{instead}"
        if memory_bytes >= ROOM * most:
            needs, has = (f"{size / GIB:,.1f} GiB" for size in (memory_bytes, most))
            return (
                f"a worker with more memory: it needs about {needs}, the largest has {has}; or use "
                "a smaller network, batch or number of orbits"
            )
        most_asked = max(each.gpu_bytes for each in labelled)
        if requires.gpu_bytes > most_asked:
            asked, has = (f"{size / GIB:,.1f} GiB" for size in (requires.gpu_bytes, most_asked))
            return f"a worker with more memory on its GPU: {asked} is asked for, the most is {has}"
        able = (
            each.slots.items()
            for each in labelled
            if each.trouble is None
            and memory_bytes < ROOM * each.memory[device]
            and requires.gpu_bytes <= each.gpu_bytes
        )
        slots = dict(chain.from_iterable(able))
        if self._are_busy(slots):
            total = sum(slots.values())
            return f"a free slot: the workers that can take it are busy ({total} in all)"
        return None

    def _are_busy(self, slots: dict[str, int]) -> bool:
        """Whether all slots, by the id of their worker, hold a job."""
        if self._all_held < sum(slots.values()):
            return False  # wherever those are
        return all(self._held.get(worker_id, 0) >= most for worker_id, most in slots.items())

    @cached_property
    def _here(self) -> list[Alike]:
        return self._workers_here.of(self._connection)

    @cached_property
    def _all_held(self) -> int:
        """How many jobs all workers hold."""
        held = select(func.count()).where(jobs.c.status.in_(LEASED))
        return self._connection.scalar(held) or 0

    @cached_property
    def _held(self) -> dict[str, int]:
        """How many jobs each worker holds."""
        held = (
            select(attempts.c.worker_id, func.count().label("held"))
            .join(jobs, jobs.c.lease_id == attempts.c.lease_id)
            .where(jobs.c.status.in_(LEASED))
            .group_by(attempts.c.worker_id)
        )
        return {row.worker_id: row.held for row in self._connection.execute(held)}

    @cached_property
    def _busy_owners(self) -> set[str]:
        """Those who have as many jobs running as they may."""
        if not self._most_running:
            return set()
        return set(self._connection.scalars(busy_owners(self._most_running)))


def _count(sorts: list[Alike]) -> int:
    return sum(len(each.slots) for each in sorts)
