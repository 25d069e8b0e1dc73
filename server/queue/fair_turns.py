"""Whose job is next among those of one priority: owners take turns.

A waiting job has a turn, given when it enters the queue: one more than its owner's last, but not
before those that wait already. A job that lost its worker had its turn, and is next again. So who
submits a hundred jobs stands behind somebody else's first one, and a claim needs no more than the
head of an index (start-time fair queueing, Goyal et al. 1996, with jobs of equal size).
"""

from sqlalchemy import ColumnElement, Connection, func, select

from server.database.tables import jobs
from server.queue.job_rows import JobRow
from server.wire.states import JobStatus

QUEUE_ORDER = (jobs.c.queue_rank, jobs.c.queue_turn, jobs.c.id)


def next_turn(connection: Connection, owner_id: str, queue_rank: int) -> int:
    """The turn of an owner's next job in a queue that has the jobs of one priority."""
    own = jobs.c.owner_id == owner_id
    begins = _turn(connection, func.min(jobs.c.queue_turn), queue_rank)
    last = _turn(connection, func.max(jobs.c.queue_turn), queue_rank, own)
    return max(0 if begins is None else begins, -1 if last is None else last + 1)


def turn_again(connection: Connection, job: JobRow) -> int:
    """The turn of a job that goes back to the queue: nobody that came later is before it."""
    begins = _turn(connection, func.min(jobs.c.queue_turn), job.queue_rank)
    return job.queue_turn if begins is None else min(job.queue_turn, begins)


def _turn(
    connection: Connection,
    which: ColumnElement[int],
    queue_rank: int,
    *of: ColumnElement[bool],
) -> int | None:
    """The first or last turn of those that wait; None where nobody does."""
    waiting = jobs.c.status == JobStatus.QUEUED, jobs.c.queue_rank == queue_rank
    return connection.execute(select(which).where(*waiting, *of)).scalar_one()
