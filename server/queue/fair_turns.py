"""Whose job is next among those of one priority: owners take turns.

A claim goes to the owner whose last turn lies furthest back, among those with a job that the worker
can take: round robin over the owners that wait (Nagle 1987), decided when a worker asks. So a
hundred jobs of one stand behind another's first, and a job that no worker can take holds up nobody.
Each pool, workers that can take the same jobs, has turns of its own: what an owner gets from hosts
without a GPU costs no turn at a GPU.

An owner's own jobs come in the order of `queue_turn`. One that lost its worker had its turn
(`HAD_TURN`): it is next again, and takes no other.
"""

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.sqlite import Insert, insert

from server.database.tables import NO_LABELS, jobs, turns
from server.queue.job_rows import JobRow
from server.queue.workers import Capacity
from server.wire.states import LEASED, JobStatus

HAD_TURN = 0
NO_LIMIT = 2**62

WAITS = jobs.c.status == JobStatus.QUEUED
RANK = bindparam("rank", type_=Integer)
OWNER: BindParameter[str] = bindparam("owner_id")
POOL: BindParameter[str] = bindparam("pool")
IN_RANK = WAITS, jobs.c.queue_rank == RANK
OWN_ORDER = jobs.c.queue_turn, jobs.c.id

LAST_TURN = select(func.max(jobs.c.queue_turn)).where(*IN_RANK, jobs.c.owner_id == OWNER)


def next_turn(connection: Connection, owner_id: str, queue_rank: int) -> int:
    """The `queue_turn` of a job that comes after all of its owner's in one priority."""
    mine = {"rank": queue_rank, "owner_id": owner_id}
    return (connection.execute(LAST_TURN, mine).scalar_one() or HAD_TURN) + 1


def next_job(connection: Connection, capacity: Capacity, most_running: int) -> str | None:
    """The job that a worker gets, if there is one that it can take.

    Args:
        most_running: jobs of an owner that may run at a time; 0 means no limit.
    """
    asked = _asked(capacity, most_running)
    rank = connection.execute(NEXT_RANK, asked).scalar()
    if rank is None:
        return None
    return connection.execute(NEXT_JOB, {"rank": rank, **asked}).scalar_one()


def number_waiting(connection: Connection, capacity: Capacity, most_running: int) -> int:
    """How many jobs workers of a capacity could take at once, had they slots enough.

    Args:
        most_running: jobs of an owner that may run at a time; 0 means no limit.
    """
    asked = _asked(capacity, most_running)
    most = most_running or NO_LIMIT
    running = {row.owner_id: row.number for row in connection.execute(RUNNING)}
    return sum(
        min(waiting, most - running.get(owner_id, 0))
        for owner_id, waiting in connection.execute(WAITING, asked)
    )


def _asked(capacity: Capacity, most_running: int) -> dict[str, Any]:
    return {
        "pool": capacity.pool,
        "kinds": capacity.kinds,
        "most_running": most_running or NO_LIMIT,
        "seconds": capacity.seconds,
        "gpu_bytes": capacity.gpu_bytes,
        "labels": capacity.labels,
        **capacity.memory,
    }


def serve(connection: Connection, job: JobRow, pool: str) -> None:
    """A worker of a pool took a job: its owner's turn there was now."""
    if job.queue_turn != HAD_TURN:
        taken = {"rank": job.queue_rank, "pool": pool, "owner_id": job.owner_id}
        connection.execute(TAKE_TURN, taken)


def busy_owners(most_running: Any) -> Select[Any]:
    """Who has as many jobs running as one may."""
    running = select(jobs.c.owner_id).where(jobs.c.status.in_(LEASED)).group_by(jobs.c.owner_id)
    return running.having(func.count() >= most_running)


def _take_turn() -> Insert:
    latest = select(func.max(turns.c.turn)).where(turns.c.queue_rank == RANK).scalar_subquery()
    taken = insert(turns).values(
        queue_rank=RANK, pool=POOL, owner_id=OWNER, turn=func.coalesce(latest, 0) + 1
    )
    return taken.on_conflict_do_update(
        index_elements=list(turns.primary_key), set_={"turn": taken.excluded.turn}
    )


def _next_job() -> Select[Any]:
    """The first of the first jobs of each owner."""
    first = _first_of_each_owner()
    last = turns.c.queue_rank == RANK, turns.c.pool == POOL
    return (
        select(jobs.c.id)
        .join(first, first.c.job_id == jobs.c.id)
        .outerjoin(turns, and_(*last, turns.c.owner_id == jobs.c.owner_id))
        .order_by(jobs.c.queue_turn != HAD_TURN, func.coalesce(turns.c.turn, 0), jobs.c.id)
        .limit(1)
    )


def _first_of_each_owner() -> Subquery:
    """Of each owner the first job that a worker can take, as (job_id); a step of the index each."""
    owner = func.min(jobs.c.owner_id)
    owners = select(owner.label("id")).where(*IN_RANK).cte("owners", recursive=True)
    beyond = select(owner).where(*IN_RANK, jobs.c.owner_id > owners.c.id).scalar_subquery()
    owners = owners.union_all(select(beyond).where(owners.c.id.is_not(None)))
    first = (
        select(jobs.c.id)
        .where(*IN_RANK, jobs.c.owner_id == owners.c.id, _fits())
        .order_by(*OWN_ORDER)
        .limit(1)
        .scalar_subquery()
    )
    return select(first.label("job_id")).select_from(owners).where(_may_run(owners.c.id)).subquery()


def _fits() -> ColumnElement[bool]:
    """Whether the worker can take a job."""
    room = case(
        *((jobs.c.device == device, bindparam(device)) for device in ("cpu", "cuda")),
        else_=bindparam("auto"),
    )
    needed = func.json_each(jobs.c.needs).table_valued("value")
    lacking = select(needed.c.value).where(
        needed.c.value.not_in(bindparam("labels", expanding=True))
    )
    return and_(
        jobs.c.kind.in_(bindparam("kinds", expanding=True)),
        jobs.c.memory_bytes < room,
        jobs.c.epoch_s <= bindparam("seconds"),
        jobs.c.gpu_bytes <= bindparam("gpu_bytes"),
        or_(jobs.c.needs == NO_LABELS, ~lacking.exists()),
    )


def _may_run(owner_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether an owner may have another job running."""
    return owner_id.not_in(busy_owners(bindparam("most_running")))


NEXT_RANK = (
    select(jobs.c.queue_rank)
    .where(WAITS, _fits(), _may_run(jobs.c.owner_id))
    .order_by(jobs.c.queue_rank)
    .limit(1)
)
TAKE_TURN, NEXT_JOB = _take_turn(), _next_job()
WAITING = (
    select(jobs.c.owner_id, func.count())
    .where(WAITS, _fits(), _may_run(jobs.c.owner_id))
    .group_by(jobs.c.owner_id)
)
RUNNING = (
    select(jobs.c.owner_id, func.count().label("number"))
    .where(jobs.c.status.in_(LEASED))
    .group_by(jobs.c.owner_id)
)
