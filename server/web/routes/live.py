"""What changes, of all that a page shows, in one stream."""

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, select

from server.access.roles import Principal
from server.database.tables import jobs
from server.errors import Stopping
from server.queue.changes import Changes
from server.service import Service
from server.views import jobs as job_views
from server.web.routes.job_filter import Columns
from server.web.routes.parameters import JOB_ID, Caller, TheService
from server.web.routes.stream import LONGEST_S, RECONNECT_MS, STREAM, message
from server.wire.columns import JobColumn

router = APIRouter(prefix="/v1/stream", tags=["jobs"])

INTERVAL_S = 1.0  # between looks: what changes meanwhile is told together
QUIET_S = 15.0  # after which a stream says that it is there
MOST_TOLD = 200  # changed jobs; of more the client looks for itself
JOBS, QUEUE = "jobs", "queue"
Topic = Annotated[str, Query(pattern=f"^(jobs|queue|{JOB_ID[1:-1]})$")]


@router.get("", response_class=StreamingResponse, responses=STREAM)
async def stream_changes(
    service: TheService,
    caller: Caller,
    topics: Annotated[
        list[Topic],
        Query(
            min_length=1,
            max_length=50,
            description="`jobs`: every job that the caller sees; `queue`; or jobs by their ids.",
        ),
    ],
    columns: Columns = None,
) -> StreamingResponse:
    """Changes as server-sent events, once a second where there are any.

    `jobs` tells the jobs that changed, as lists show them with these columns, and the ids of those
    that are `gone`; where `all` is true so many changed that a client reads its list anew, as after
    every connection. `queue` says that the queue changed. Ends with `restart` where the server
    stops, with `refused` where the token is revoked or the session logged out, else after five
    minutes: come again.
    """
    return StreamingResponse(
        _changes(service, caller, frozenset(topics), tuple(dict.fromkeys(columns or ()))),
        media_type="text/event-stream",
    )


async def _changes(
    service: Service, caller: Principal, topics: frozenset[str], columns: tuple[str, ...]
) -> AsyncGenerator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    until = time.monotonic() + LONGEST_S
    seen, quiet_since = service.changes.count, time.monotonic()
    with service.changes.subscribe("the server's end") as end:
        while time.monotonic() < until:
            try:
                await end.wait(INTERVAL_S)
            except Stopping as error:
                yield message("restart", {"detail": error.detail})
                return
            if not service.is_welcome(caller):
                yield message("refused", {})
                return
            changed, seen = service.changes.since(seen), service.changes.count
            told = (
                "" if changed == set() else await _tell(service, caller, topics, columns, changed)
            )
            if told:
                quiet_since = time.monotonic()
                yield told
            elif time.monotonic() - quiet_since > QUIET_S:
                quiet_since = time.monotonic()
                yield ": still here\n\n"


async def _tell(
    service: Service,
    caller: Principal,
    topics: frozenset[str],
    columns: tuple[str, ...],
    changed: set[str] | None,
) -> str:
    """What changed of some topics, as messages."""
    if changed is None:
        return message("jobs", {"data": [], "gone": [], "all": True}) + message("queue", {})
    told = message("queue", {}) if QUEUE in topics and Changes.QUEUE in changed else ""
    wanted = {topic for topic in changed if topic.startswith("job_")}
    if JOBS not in topics:
        wanted &= topics
    if len(wanted) > MOST_TOLD:
        return told + message("jobs", {"data": [], "gone": [], "all": True})
    if wanted:
        ids = tuple(sorted(wanted))
        key = "live", caller.owner_filter, ids, columns, service.changes.count
        look = partial(service.read, partial(_look, ids, columns, caller.owner_filter))
        told += await service.streams.look(key, look)
    return told


def _look(
    ids: tuple[str, ...], columns: tuple[str, ...], owner_id: str | None, connection: Connection
) -> str:
    """Some jobs as a message; nothing of those that the caller may not see."""
    shown = {column: JobColumn.parse(column) for column in columns}
    found = job_views.jobs_by_id(connection, ids, shown, owner_id)
    data = [job.model_dump(mode="json") for job in found]
    there = set(connection.execute(select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars())
    gone = [job_id for job_id in ids if job_id not in there]
    return message("jobs", {"data": data, "gone": gone, "all": False})
