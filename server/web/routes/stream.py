"""A job's events as they happen, as server-sent events."""

import json
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

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
from server.wire.history import EventView
from server.wire.jobs import JobSummary
from server.wire.states import TERMINAL

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

KEEP_ALIVE_S = 15.0
LONGEST_S = 300.0  # then the client comes again, with a token that is still valid
RECONNECT_MS = 2000
PART = 100  # events of one read
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}
}


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
    return StreamingResponse(
        _events(service, job_id, caller, after), media_type="text/event-stream"
    )


async def _events(
    service: Service, job_id: str, caller: Principal, after: int | None
) -> AsyncGenerator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    said: dict[str, Any] | None = None
    until = time.monotonic() + LONGEST_S

    def look(connection: Connection) -> tuple[JobSummary, list[EventView], bool]:
        row = ownership.find_job(connection, job_id, caller.owner_filter)
        page = history.events_page(connection, job_id, after=after, limit=PART)
        return job_views.job_summary(row), page.data, page.has_more

    with service.changes.subscribe(job_id) as subscription:
        while time.monotonic() < until and service.is_welcome(caller):
            try:
                job, events, more = await service.read(look)
            except NotFound:
                yield _message("end", {"status": "deleted"})
                return
            for event in events:
                after = event.id
                yield _message(event.type, event.model_dump(mode="json"), event.id)
            if more:
                continue
            state = job.model_dump(mode="json", include={"status", "phase", "progress"})
            if state != said:
                said = state
                yield _message("progress", state)
            if job.status in TERMINAL:
                yield _message("end", {"status": job.status})
                return
            try:
                changed = await subscription.wait(KEEP_ALIVE_S)
            except Stopping as error:
                yield _message("restart", {"detail": error.detail})
                return
            if not changed:
                yield ": still here\n\n"


def _message(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """One message; ASCII, so that no character of a text can end a line of it."""
    identifier = "" if number is None else f"id: {number}\n"
    return f"{identifier}event: {kind}\ndata: {json.dumps(data)}\n\n"
