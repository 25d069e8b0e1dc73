"""Whose job is next among those of one priority: owners take turns.

A waiting job has a turn, given when it enters the queue: one more than its owner's last, but not
before those that wait already. So who submits a hundred jobs stands behind somebody else's first
one, and a claim needs no more than the head of an index (start-time fair queueing, Goyal et al.
1996, with jobs of equal size).
"""

from sqlalchemy import Connection, func, select

from server.database.tables import jobs
from server.wire.states import JobStatus

QUEUE_ORDER = (jobs.c.queue_rank, jobs.c.queue_turn, jobs.c.id)


def next_turn(connection: Connection, owner_id: str, queue_rank: int) -> int:
    """The turn of an owner's next job in a queue that has the jobs of one priority."""
    waiting = jobs.c.status == JobStatus.QUEUED, jobs.c.queue_rank == queue_rank
    head = select(func.min(jobs.c.queue_turn)).where(*waiting)
    own = select(func.max(jobs.c.queue_turn)).where(*waiting, jobs.c.owner_id == owner_id)
    begins = connection.execute(head).scalar_one()
    last = connection.execute(own).scalar_one()
    return max(0 if begins is None else begins, -1 if last is None else last + 1)
