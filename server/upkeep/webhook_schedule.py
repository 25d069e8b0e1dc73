"""When the calls to users' own servers are made, and made again.

A call is a row, written in the transaction that ends its job: it survives a restart, and is tried
again until it is answered or given up.
"""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, delete, func, select, update

from server.database.tables import deliveries, jobs
from server.queue.job_rows import record_event

RETRY_AFTER_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0)  # then it is given up
MOST_AT_ONCE, MOST_OF_OWNER = 40, 5

STEP_S = 60.0  # a clock that is set right, not moved


@dataclass(frozen=True)
class Delivery:
    """A call that is due."""

    id: str
    job_id: str
    url: str
    body: bytes
    tries: int


def due(connection: Connection, now: float, under_way: Collection[str] = ()) -> list[Delivery]:
    """The calls to make now, without those that are being made; owners take turns.

    An owner has some calls at a time, so that a silent address of one delays no other's.
    """
    # What is planned for later than any plan goes was planned by a clock that was moved since.
    beyond = now + max(RETRY_AFTER_S) + STEP_S
    due = (deliveries.c.next_at <= now) | (deliveries.c.next_at > beyond)
    busy = deliveries.c.id.in_(under_way)
    number = func.row_number().over(
        partition_by=jobs.c.owner_id, order_by=(case((busy, 0), else_=1), deliveries.c.next_at)
    )
    numbered = (
        select(
            deliveries,
            *(jobs.c[name] for name in ("name", "kind", "status", "stop_reason")),
            number.label("number"),
        )
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(due | busy)
        .subquery()
    )
    rows = connection.execute(
        select(numbered)
        .where(numbered.c.number <= MOST_OF_OWNER, numbered.c.id.not_in(under_way))
        .order_by(numbered.c.number, numbered.c.next_at)
        .limit(MOST_AT_ONCE)
    )
    return [Delivery(row.id, row.job_id, row.url, _body(row), row.tries) for row in rows]


def settle(connection: Connection, delivery: Delivery, *, answered: bool, now: float) -> None:
    """A call was made: forget it, or plan the next try; the last one is given up."""
    mine = deliveries.c.id == delivery.id
    again = delivery.tries < len(RETRY_AFTER_S)
    if connection.execute(select(deliveries.c.id).where(mine)).first() is None:
        return  # the job is gone, and its calls with it
    if answered or not again:
        kind = "webhook_answered" if answered else "webhook_given_up"
        record_event(connection, delivery.job_id, now, kind, {"tries": delivery.tries + 1})
    if answered:
        connection.execute(delete(deliveries).where(mine))
        return
    connection.execute(
        update(deliveries)
        .where(mine)
        .values(
            tries=delivery.tries + 1,
            next_at=now + RETRY_AFTER_S[delivery.tries] if again else None,
        )
    )


def _body(row: Any) -> bytes:
    data = {name: getattr(row, name) for name in ("name", "kind", "status", "stop_reason")}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.at))
    message = {"type": row.type, "timestamp": at, "data": {"id": row.job_id, **data}}
    return json.dumps(message).encode()
