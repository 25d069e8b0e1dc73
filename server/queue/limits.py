"""What one token may ask for: jobs that wait, and how urgent they are."""

from sqlalchemy import Connection, func, select

from server.access.roles import Principal
from server.database.tables import jobs
from server.errors import FieldProblem, InvalidRequest, LimitReached
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


def check_priority(priority: int | None, caller: Principal, most: int) -> None:
    """Users have a range of their own; above it are the admins' priorities.

    Raises:
        InvalidRequest
    """
    if caller.role != "admin" and priority is not None and priority > most:
        advice = f"users may give -100 to {most} (ORRERY_USER_PRIORITY); ask an admin for more"
        raise InvalidRequest(FieldProblem("/priority", advice))
