"""Rows of workers → what the API answers."""

from sqlalchemy import Connection, select

from server.database.tables import attempts, jobs, workers
from server.queue.ownership import is_visible
from server.views.pages import instant, instant_or_none
from server.wire.workers import Gpu, WorkerView

MOST = 1000  # listed


def list_workers(
    connection: Connection,
    last_seen: dict[str, float],
    owner_id: str | None,
    only: str | None = None,
) -> list[WorkerView]:
    """Workers that registered, newest first, with those jobs that this owner may see.

    Args:
        only: the id of one; None: all, or the thousand that were heard of last.
    """
    held: dict[str, list[str]] = {}
    query = select(attempts.c.worker_id, jobs.c.id).join(
        jobs, jobs.c.lease_id == attempts.c.lease_id
    )
    for worker_id, job_id in connection.execute(query.where(is_visible(owner_id, jobs.c.owner_id))):
        held.setdefault(worker_id, []).append(job_id)
    chosen = select(workers).order_by(workers.c.last_seen_at.desc(), workers.c.id.desc())
    if only is not None:
        chosen = chosen.where(workers.c.id == only)
    rows = sorted(connection.execute(chosen.limit(MOST)), key=lambda row: row.id, reverse=True)
    return [
        WorkerView(
            id=row.id,
            name=row.name,
            host=row.host,
            slots=row.slots,
            gpus=[Gpu(**gpu) for gpu in row.gpus],
            memory_bytes=row.memory_bytes,
            versions=row.versions,
            labels=row.labels,
            registered_at=instant(row.registered_at),
            last_seen_at=instant_or_none(last_seen.get(row.id, row.last_seen_at)),
            left_at=instant_or_none(row.left_at),
            jobs=held.get(row.id, []),
            draining=row.draining,
            refusal=row.refusal,
            trouble=row.trouble,
            files=row.files,
        )
        for row in rows
    ]
