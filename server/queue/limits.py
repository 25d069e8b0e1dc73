"""How many jobs of one token may wait."""

from sqlalchemy import Connection, func, select

from server.database.tables import jobs
from server.errors import LimitReached
from server.wire.states import JobStatus

QUEUE_RETRY_S = 60  # when to look whether the queue has become shorter


def check_queue(connection: Connection, owner_id: str, most: int) -> None:
    """Refuse another job of an owner who has `most` waiting; 0 means no limit.

    Raises:
        LimitReached
    """
    if not most:
        return
    mine = select(func.count()).where(
        jobs.c.status == JobStatus.QUEUED, jobs.c.owner_id == owner_id
    )
    if connection.execute(mine).scalar_one() >= most:
        raise LimitReached(f"{most} waiting jobs (ORRERY_MAX_QUEUED_JOBS)", QUEUE_RETRY_S)
