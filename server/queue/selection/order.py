"""In which order jobs are listed, and where a part of the list begins."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from server.database.tables import jobs, summaries
from server.queue.ownership import find_job
from server.queue.selection.columns import expression
from server.wire.columns import Order

WITH_SUMMARIES = jobs.outerjoin(summaries, summaries.c.job_id == jobs.c.id)


class Place(NamedTuple):
    """Where a job is in a list: behind it the next part begins."""

    job_id: str
    value: Any = None  # that jobs are sorted by


def place_of(
    connection: Connection, job_id: str, order: Order | None, owner_id: str | None
) -> Place:
    """Where a job is; by age also one that is gone.

    Raises:
        NotFound: jobs are sorted by something else, and it is gone.
    """
    if order is None:
        return Place(job_id)
    find_job(connection, job_id, owner_id)
    of_job = select(expression(order.column)).where(jobs.c.id == job_id)
    return Place(job_id, connection.execute(of_job.select_from(WITH_SUMMARIES)).scalar_one())


def in_order(query: Select[Any], order: Order | None, after: Place | None) -> Select[Any]:
    """Jobs sorted, the newest first where no order is given; those without a value come last, of
    equals the newest comes first."""
    if order is None:
        query = query.order_by(jobs.c.id.desc())
        return query if after is None else query.where(jobs.c.id < after.job_id)
    value: ColumnElement[Any] = expression(order.column)
    direction = value.desc() if order.descending else value.asc()
    query = query.order_by(value.is_(None), direction, jobs.c.id.desc())
    if after is None:
        return query
    older = jobs.c.id < after.job_id
    if after.value is None:
        return query.where(value.is_(None), older)
    beyond = value < after.value if order.descending else value > after.value
    return query.where(or_(beyond, and_(value == after.value, older), value.is_(None)))
