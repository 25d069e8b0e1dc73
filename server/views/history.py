"""A job's past → what the API answers: events, attempts, log. Queries that only read."""

from typing import Any

from sqlalchemy import Connection, and_, func, select

from server.database.tables import attempts, events, jobs, log_chunks
from server.views.pages import instant, instant_or_none, page
from server.wire.history import AttemptView, EventView
from server.wire.messages import Page


def events_page(
    connection: Connection, job_id: str, *, after: int | None, limit: int
) -> Page[EventView]:
    """A job's events in order."""
    query = select(events).where(events.c.job_id == job_id).order_by(events.c.id).limit(limit + 1)
    if after is not None:
        query = query.where(events.c.id > after)
    views = [
        EventView(id=row.id, job_id=row.job_id, at=instant(row.at), type=row.type, data=row.data)
        for row in connection.execute(query)
    ]
    return page(views, limit)


def attempts_page(
    connection: Connection, job_id: str, *, after: int | None, limit: int
) -> Page[AttemptView]:
    """A job's attempts in order."""
    query = (
        select(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.number > (after or 0))
        .order_by(attempts.c.number)
        .limit(limit + 1)
    )
    views: list[AttemptView] = []
    for row in connection.execute(query):
        outcome: dict[str, Any] = row.outcome or {}
        views.append(
            AttemptView(
                id=row.number,
                worker_id=row.worker_id,
                started_at=instant(row.started_at),
                ended_at=instant_or_none(row.ended_at),
                first_epoch=row.first_epoch,
                whereabouts=row.whereabouts,
                status=outcome.get("status"),
                stop_reason=outcome.get("stop_reason"),
                detail=outcome.get("detail"),
            )
        )
    return page(views, limit)


def log_bytes(connection: Connection, job_id: str, offset: int, limit: int) -> tuple[bytes, int]:
    """Log bytes from an offset, at most `limit`, and the length of the whole log."""
    end = connection.execute(select(jobs.c.log_bytes).where(jobs.c.id == job_id)).scalar_one()
    first = connection.execute(
        select(func.max(log_chunks.c.offset)).where(
            log_chunks.c.job_id == job_id, log_chunks.c.offset <= offset
        )
    ).scalar_one()
    if first is None or offset >= end:
        return b"", end
    query = (
        select(log_chunks.c.offset, log_chunks.c.data)
        .where(
            and_(
                log_chunks.c.job_id == job_id,
                log_chunks.c.offset >= first,
                log_chunks.c.offset < offset + limit,
            )
        )
        .order_by(log_chunks.c.offset)
    )
    parts = [chunk.data[max(offset - chunk.offset, 0) :] for chunk in connection.execute(query)]
    return b"".join(parts)[:limit], end
