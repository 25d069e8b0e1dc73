"""Whose job is next among those of one priority: owners take turns.

A job has a turn, given when it enters the queue: one more than its owner's last, and later than
the turn that is being served. So who submits a hundred jobs stands behind somebody else's first
one, and a claim needs no more than the head of an index. That is start-time fair queueing (Goyal
et al. 1996) with jobs of equal size; what is served goes on with each claim, so that a job that no
worker can take holds up nobody's turn and makes room for none.
"""

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from server.database.tables import jobs, turns
from server.queue.job_rows import JobRow
from server.wire.states import JobStatus

QUEUE_ORDER = (jobs.c.queue_rank, jobs.c.queue_turn, jobs.c.id)


def next_turn(connection: Connection, owner_id: str, queue_rank: int) -> int:
    """The turn of an owner's next job in a queue that has the jobs of one priority."""
    served = _served(connection, queue_rank)
    begins = _waiting(connection, func.min(jobs.c.queue_turn), queue_rank)
    own = jobs.c.owner_id == owner_id
    last = _waiting(connection, func.max(jobs.c.queue_turn), queue_rank, own)
    earliest = (begins or 0) if served is None else served + 1
    return earliest if last is None else max(earliest, last + 1)


def turn_again(connection: Connection, job: JobRow) -> int:
    """The turn of a job that lost its worker: it had its turn, and is next again."""
    served = _served(connection, job.queue_rank)
    return job.queue_turn if served is None else min(job.queue_turn, served)


def serve(connection: Connection, job: JobRow) -> None:
    """A job was claimed: its turn is served.

    One that was taken past others moves it by one: they are not to wait for all that came between.
    """
    served = _served(connection, job.queue_rank)
    first = _waiting(connection, func.min(jobs.c.queue_turn), job.queue_rank)
    turn = job.queue_turn
    if first is not None and first < turn:
        turn = first if served is None else min(turn, served + 1)
    if served is None:
        connection.execute(insert(turns).values(queue_rank=job.queue_rank, turn=turn))
    elif turn > served:
        rank = turns.c.queue_rank == job.queue_rank
        connection.execute(update(turns).where(rank).values(turn=turn))


def _served(connection: Connection, queue_rank: int) -> int | None:
    """The turn that is being served; None before the first claim."""
    found = select(turns.c.turn).where(turns.c.queue_rank == queue_rank)
    return connection.execute(found).scalar()


def _waiting(
    connection: Connection,
    which: ColumnElement[int],
    queue_rank: int,
    *of: ColumnElement[bool],
) -> int | None:
    """The first or last turn of those that wait; None where nobody does."""
    waiting = jobs.c.status == JobStatus.QUEUED, jobs.c.queue_rank == queue_rank
    return connection.execute(select(which).where(*waiting, *of)).scalar_one()
