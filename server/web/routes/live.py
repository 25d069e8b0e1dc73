"""What changes, of all that a page shows, in one stream."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from server.access.roles import Principal
from server.errors import Stopping
from server.service import Service
from server.web.live_feeds import LiveFeeds, Want
from server.web.routes.job_filter import Columns
from server.web.routes.parameters import JOB_ID, Caller, TheService
from server.web.routes.stream import LONGEST_S, RECONNECT_MS, STREAM, EventStream, message

router = APIRouter(prefix="/v1/stream", tags=["jobs"])

LOOK_S = 1.0  # between looks at whether the caller is still welcome
QUIET_S = 15.0  # after which a stream says that it is there
Topic = Annotated[str, Query(pattern=f"^(jobs|queue|{JOB_ID[1:-1]})$")]


@router.get("", response_class=StreamingResponse, responses=STREAM)
async def stream_changes(
    request: Request,
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
    want = Want(frozenset(topics), tuple(dict.fromkeys(columns or ())), caller.owner_filter)
    told = _changes(service, request.app.state.feeds, caller, want)
    return EventStream(told)


async def _changes(
    service: Service, feeds: LiveFeeds, caller: Principal, want: Want
) -> AsyncGenerator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    until = time.monotonic() + LONGEST_S
    heard_at = time.monotonic()
    with feeds.subscribe(want) as messages:
        while time.monotonic() < until:
            told: str | None = None
            try:
                async with asyncio.timeout(LOOK_S):
                    told = await messages.get()
            except TimeoutError:
                pass
            if not service.is_welcome(caller):
                yield message("refused", {})
                return
            if told == "":
                yield message("restart", {"detail": Stopping().detail})
                return
            if told is None and time.monotonic() - heard_at > QUIET_S:
                told = ": still here\n\n"
            if told is not None:
                heard_at = time.monotonic()
                yield told
