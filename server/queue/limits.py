"""What one token may ask for: jobs that wait, and how urgent they are."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from server.access.roles import Principal
from server.database.tables import jobs, usage
from server.errors import FieldProblem, InvalidRequest, LimitReached
from server.wire.states import JobStatus

STORED_RETRY_S = 60
QUEUE_RETRY_S = 60  # when to look whether the queue has become shorter


@dataclass(frozen=True)
class Limits:
    """Of one owner; 0 means no limit.

    Attributes:
        queued: jobs that may wait.
        row_bytes: in the database: configs, metrics, logs.
        file_bytes: checkpoints and artifacts.
    """

    queued: int = 0
    row_bytes: int = 0
    file_bytes: int = 0


NO_LIMITS = Limits()


def check_limits(connection: Connection, owner_id: str, limits: Limits) -> None:
    """Refuse another job of an owner who has as much as one may.

    Raises:
        LimitReached
    """
    check_queue(connection, owner_id, limits.queued)
    check_stored(connection, owner_id, limits)


def check_stored(connection: Connection, owner_id: str, limits: Limits) -> None:
    """Refuse more of an owner who stores as much as one may.

    Raises:
        LimitReached
    """
    row = connection.execute(select(usage).where(usage.c.owner_id == owner_id)).first()
    if row is None:
        return
    for has, most, what, setting in (
        (row.row_bytes, limits.row_bytes, "configs, metrics and logs", "ORRERY_MAX_ROW_BYTES"),
        (row.file_bytes, limits.file_bytes, "checkpoints and artifacts", "ORRERY_MAX_FILE_BYTES"),
    ):
        if most and has >= most:
            advice = f"{most} bytes of {what} ({setting}; you have {has}): delete jobs, or files"
            raise LimitReached(advice, STORED_RETRY_S)


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
