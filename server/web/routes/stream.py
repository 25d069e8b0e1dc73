"""A job's events as they happen, as server-sent events."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterable
from functools import partial
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from server.access.roles import Principal
from server.errors import NotFound, Stopping
from server.queue import ownership
from server.service import Service
from server.views import history
from server.views import jobs as job_views
from server.web.routes.parameters import Caller, JobId, TheService
from server.wire.states import TERMINAL

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

KEEP_ALIVE_S = 15.0
LONGEST_S = 300.0  # then the client comes again, with a token that is still valid
RECONNECT_MS = 2000
PART = 100  # events of one read
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}
}


class Look(NamedTuple):
    """What is new of a job, as messages."""

    last_id: int | None
    events: str
    has_more: bool
    progress: str
    end: str  # empty where it is not over


class EventStream(StreamingResponse):
    """Server-sent events, that no proxy holds back."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterable[str]) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})


@router.get("/{job_id}/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_job(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    last_event_id: Annotated[
        str | None,
        Header(pattern=r"^\d{1,15}$", description="Begin after this event."),
    ] = None,
) -> StreamingResponse:
    """A job's event log as server-sent events, and `progress` whenever the job changes.

    Ends with `end` once the job is over and all was said, with `restart` where the server stops,
    and without either where the token is revoked. Events carry ids: a client that comes again with
    `Last-Event-ID` misses none.
    """
    await service.read(
        lambda connection: ownership.job_version(connection, job_id, caller.owner_filter)
    )
    after = int(last_event_id) if last_event_id else None
    return EventStream(_events(service, job_id, caller, after))


async def _events(
    service: Service, job_id: str, caller: Principal, after: int | None
) -> AsyncGenerator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    said: str | None = None
    until = time.monotonic() + LONGEST_S

    with service.changes.subscribe(job_id) as subscription:
        while time.monotonic() < until and service.is_welcome(caller):
            try:
                seen = await service.streams.look(
                    (job_id, after, service.changes.count),
                    partial(service.read, partial(_look, job_id, after)),
                )
            except NotFound:
                yield message("end", {"status": "deleted"})
                return
            after = seen.last_id
            if seen.events:
                yield seen.events
            if seen.has_more:
                continue
            if seen.progress != said:
                said = seen.progress
                yield seen.progress
            if seen.end:
                yield seen.end
                return
            try:
                changed = await subscription.wait(KEEP_ALIVE_S)
            except Stopping as error:
                yield message("restart", {"detail": error.detail})
                return
            if not changed:
                yield ": still here\n\n"


def _look(job_id: str, after: int | None, connection: Connection) -> Look:
    """Whoever streams has been found to be welcome to the job."""
    row = ownership.find_job(connection, job_id, None)
    page = history.events_page(connection, job_id, after=after, limit=PART)
    job = job_views.job_summary(row)
    state = job.model_dump(mode="json", include={"status", "phase", "progress"})
    return Look(
        last_id=page.data[-1].id if page.data else after,
        events="".join(
            message(event.type, event.model_dump(mode="json"), event.id) for event in page.data
        ),
        has_more=page.has_more,
        progress=message("progress", state),
        end=message("end", {"status": job.status}) if job.status in TERMINAL else "",
    )


def message(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """One message; ASCII, so that no character of a text can end a line of it."""
    identifier = "" if number is None else f"id: {number}\n"
    return f"{identifier}event: {kind}\ndata: {json.dumps(data)}\n\n"
