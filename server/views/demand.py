"""The queue, as seen by who starts workers for it."""

import time

from sqlalchemy import Connection, func, or_, select

from server.database.tables import attempts, jobs, workers
from server.queue.fair_turns import number_waiting
from server.queue.workers import Capacity
from server.views.waiting import HEARD_S
from server.wire.demand import Demand, HeldBy
from server.wire.states import LEASED


def demand(
    connection: Connection,
    capacity: Capacity,
    names: str,
    *,
    token_id: str | None,
    last_seen: dict[str, float],
    most_running: int,
) -> Demand:
    """What there is to do for workers of a capacity, and what those do that are there already.

    Args:
        names: which begin so.
        token_id: that they registered with; None: with any.
        last_seen: when workers were heard of, where it is not noted yet.
        most_running: jobs of an owner that may run at a time; 0 means no limit.
    """
    made = select(func.count()).select_from(attempts).where(attempts.c.worker_id == workers.c.id)
    held = made.join(jobs, jobs.c.lease_id == attempts.c.lease_id).where(jobs.c.status.in_(LEASED))
    heard = time.time() - HEARD_S
    lately = [worker_id for worker_id, seen in last_seen.items() if seen > heard]
    here = [
        or_(workers.c.last_seen_at > heard, workers.c.id.in_(lately)),
        workers.c.refusal.is_(None),
        workers.c.name.startswith(names, autoescape=True),
    ]
    if token_id is not None:
        here.append(workers.c.token_id == token_id)
    counts = held.scalar_subquery().label("jobs"), made.scalar_subquery().label("attempts")
    found = select(workers.c.name, workers.c.slots, *counts).where(*here)
    return Demand(
        waiting=number_waiting(connection, capacity, most_running),
        workers=[
            HeldBy(name=row.name, slots=row.slots, jobs=row.jobs, attempts=row.attempts)
            for row in connection.execute(found)
        ],
    )
