"""Polls of a job that has not changed since it was last shown: answered without showing it again.

One layer between access control and the routes. It keeps what `GET /v1/jobs/{id}` answered, with
the version of the job that it shows, and looks at nothing but that version: every visible change of
a job changes it, but for a waiting job's place in the queue. So waiting jobs go on to the route.
"""

import asyncio
import re
from collections import OrderedDict
from enum import Enum

from server.access.roles import Principal
from server.database.writer import Database
from server.queue.ownership import glance_at_job
from server.web import polling
from server.web.asgi import App, Message, Receive, Scope, Send

JOB = re.compile(r"/v1/jobs/(job_[0-9a-z]{26})")
MOST_KEPT, LARGEST_KEPT = 2048, 2**14  # bodies, and bytes of one

Headers = list[tuple[bytes, bytes]]


class Ahead(Enum):
    """Why a request goes on to the route."""

    CHANGED = "the job is not what was shown last"
    NOT_OURS = "it waits, is not there, or is not the caller's"


class QuickPolls:
    """Answers polls from the bodies it keeps; the routes answer the rest, and it keeps those."""

    def __init__(self, app: App, database: Database) -> None:
        self._app, self._database = app, database
        self._showing: dict[str, asyncio.Event] = {}
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        is_poll = scope["type"] == "http" and scope["method"] == "GET"
        found = JOB.fullmatch(scope["path"]) if is_poll and not scope["query_string"] else None
        if found is None:
            await self._app(scope, receive, send)
            return
        job_id = found[1]
        answer = self._answer(job_id, scope)
        if answer is Ahead.CHANGED and (shown := self._showing.get(job_id)) is not None:
            await shown.wait()  # somebody has just asked the same
            answer = self._answer(job_id, scope)
        if answer is Ahead.CHANGED:
            await self._show(job_id, scope, receive, send)
        elif answer is Ahead.NOT_OURS:
            await self._app(scope, receive, send)
        else:
            status, headers, body = answer
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _show(self, job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the route show a job, and keep what it shows for those who ask meanwhile."""
        shown = self._showing[job_id] = asyncio.Event()
        try:
            await self._app(scope, receive, self._keeping(job_id, shown, send))
        finally:
            shown.set()
            if self._showing.get(job_id) is shown:
                del self._showing[job_id]

    def _answer(self, job_id: str, scope: Scope) -> "tuple[int, Headers, bytes] | Ahead":
        caller: Principal = scope["state"]["principal"]
        seen = glance_at_job(self._database, job_id, caller.owner_filter)
        if seen is None or not polling.is_told_by_version(seen[1]):
            return Ahead.NOT_OURS
        version, status = seen
        told = polling.headers_of(version, status)
        headers: Headers = [(name.lower().encode(), text.encode()) for name, text in told.items()]
        if polling.is_known(version, status, _header(scope, b"if-none-match")):
            return 304, headers, b""
        kept_version, body = self._kept.get(job_id, (None, b""))
        if kept_version != version:
            return Ahead.CHANGED
        self._kept.move_to_end(job_id)
        headers += [(b"content-type", b"application/json")]
        headers += [(b"content-length", str(len(body)).encode())]
        return 200, headers, body

    def _keeping(self, job_id: str, shown: asyncio.Event, send: Send) -> Send:
        """A `send` that keeps the body of a whole job that goes through it."""
        version: int | None = None

        async def keep(message: Message) -> None:
            nonlocal version
            if message["type"] == "http.response.start" and message["status"] == 200:
                tag = next((value for name, value in message["headers"] if name == b"etag"), b"")
                version = polling.version_of(tag.decode())
            elif version is not None and not message.get("more_body"):
                self._keep(job_id, version, message.get("body", b""))
                shown.set()
            await send(message)

        return keep

    def _keep(self, job_id: str, version: int, body: bytes) -> None:
        if len(body) <= LARGEST_KEPT:
            self._kept[job_id] = version, body
            self._kept.move_to_end(job_id)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


def _header(scope: Scope, name: bytes) -> str | None:
    found = (value for key, value in scope["headers"] if key == name)
    return next((value.decode("latin-1") for value in found), None)
