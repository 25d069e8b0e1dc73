"""One action on many jobs, in one transaction: each for itself, so that one that cannot be acted on
keeps no other from it."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from server.access.roles import Principal
from server.database.tables import jobs
from server.errors import ServerError
from server.queue import audit_log, job_actions, ownership, retries
from server.queue.job_rows import JobRow, job_folder
from server.queue.limits import Limits
from server.queue.selection.conditions import conditions
from server.queue.selection.order import WITH_SUMMARIES
from server.wire.job_lists import MANY, ActedOn, JobAction, ManyActedOn, ManyJobs
from server.wire.jobs import CancelRequest
from server.wire.states import TERMINAL, JobStatus

# What each can be done to, where a filter says which jobs are meant.
OPEN_TO: dict[JobAction, frozenset[JobStatus]] = {
    "cancel": frozenset(JobStatus) - TERMINAL,
    "pause": frozenset({JobStatus.QUEUED, JobStatus.RUNNING}),
    "resume": frozenset({JobStatus.PAUSED}),
    "retry": TERMINAL,
    "delete": TERMINAL,
}


class Acted(NamedTuple):
    """What became of the jobs, and what is still to be done.

    Attributes:
        folders: of deleted jobs whose files go, too.
    """

    answer: ManyActedOn
    folders: list[str]


def act(
    connection: Connection, caller: Principal, request: ManyJobs, *, limits: Limits, now: float
) -> Acted:
    """Do to each job what is asked for, as `job_actions` and `retries` do to one."""
    rows, has_more = _meant(connection, caller, request)
    done: list[ActedOn] = []
    folders: list[str] = []
    for job_id, row in rows:
        try:
            if row is None:
                ownership.find_job(connection, job_id, caller.owner_filter)  # which says so
            elif request.dry_run:
                done.append(ActedOn(id=job_id, status=row.status))
            else:
                done.append(_act_on(connection, caller, row, request, limits=limits, now=now))
                if request.action == "delete" and request.files:
                    folders.append(job_folder(row))
        except ServerError as error:
            status = None if row is None else JobStatus(row.status)
            done.append(ActedOn(id=job_id, status=status, problem=error.detail))
    return Acted(ManyActedOn(data=done, has_more=has_more), folders)


def _meant(
    connection: Connection, caller: Principal, request: ManyJobs
) -> tuple[Sequence[tuple[str, JobRow | None]], bool]:
    """The jobs that a request means, and whether there are more of them."""
    if request.where is None:
        named = jobs.c.id.in_(request.ids)
        seen = ownership.is_visible(caller.owner_filter, jobs.c.owner_id)
        rows = connection.execute(select(jobs).where(named, seen)).all()
        found = {row.id: row for row in rows}
        return [(job_id, found.get(job_id)) for job_id in dict.fromkeys(request.ids)], False
    where = conditions(request.where, caller.owner_filter)
    query = (
        select(jobs)
        .select_from(WITH_SUMMARIES)
        .where(*where, jobs.c.status.in_(OPEN_TO[request.action]))
    )
    if request.after is not None:
        query = query.where(jobs.c.id < request.after)
    rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(MANY + 1)).all()
    return [(row.id, row) for row in rows[:MANY]], len(rows) > MANY


def _act_on(
    connection: Connection,
    caller: Principal,
    row: JobRow,
    request: ManyJobs,
    *,
    limits: Limits,
    now: float,
) -> ActedOn:
    status: JobStatus | None = JobStatus(row.status)
    new_job = None
    match request.action:
        case "cancel":
            grace_s = 0.0 if request.force else CancelRequest().grace_s
            status = job_actions.cancel(connection, row, grace_s, now=now)
        case "pause":
            status = job_actions.pause(connection, row, now=now)
        case "resume":
            status = job_actions.resume(connection, row, now=now, most_queued=limits.queued)
        case "retry":
            owner = caller.token_id
            new_job = retries.retry(
                connection, row, request.retry, owner_id=owner, limits=limits, now=now
            )
        case "delete":
            job_actions.remove(connection, row)
            status = None
    audit_log.note(connection, caller, f"job.{request.action}", new_job or row.id)
    return ActedOn(id=row.id, status=status, new_job=new_job)
