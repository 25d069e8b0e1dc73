"""Polls of a job that has not changed since it was last shown: answered without showing it again.

One layer between access control and the routes. It keeps what `GET /v1/jobs/{id}` answered, with
the version of the job that it shows, and looks at nothing but that version: every visible change of
a job changes it, but for a waiting job's place in the queue. So waiting jobs go on to the route.
"""

import re
from collections import OrderedDict

from server.asgi import App, Message, Receive, Scope, Send
from server.auth import Principal
from server.database import Database
from server.routes.parameters import RETRY_AFTER_S, entity_tags
from server.states import TERMINAL, JobStatus

JOB = re.compile(r"/v1/jobs/(job_[0-9a-z]{26})")
MOST_KEPT, LARGEST_KEPT = 2048, 2**16  # bodies, and bytes of one

Headers = list[tuple[bytes, bytes]]


class QuickPolls:
    """Answers what it can; hands on the rest, and keeps what is answered there."""

    def __init__(self, app: App, database: Database) -> None:
        self._app, self._database = app, database
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        is_poll = scope["type"] == "http" and scope["method"] == "GET"
        found = JOB.fullmatch(scope["path"]) if is_poll and not scope["query_string"] else None
        if found is None:
            await self._app(scope, receive, send)
            return
        answer = self._answer(found[1], scope)
        if answer is None:
            await self._app(scope, receive, self._keeping(found[1], send))
            return
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, job_id: str, scope: Scope) -> tuple[int, Headers, bytes] | None:
        row = self._database.look("SELECT version, status, owner_id FROM jobs WHERE id = ?", job_id)
        caller: Principal = scope["state"]["principal"]
        if row is None or caller.owner_filter not in {None, row[2]}:
            return None
        version, status = row[0], JobStatus(row[1])
        if status is JobStatus.QUEUED:
            return None
        headers: Headers = [(b"etag", f'W/"{version}"'.encode())]
        if status not in TERMINAL:
            headers.append((b"retry-after", RETRY_AFTER_S.encode()))
        if str(version) in entity_tags(_header(scope, b"if-none-match")):
            return 304, headers, b""
        kept_version, body = self._kept.get(job_id, (None, b""))
        if kept_version != version:
            return None
        self._kept.move_to_end(job_id)
        headers += [(b"content-type", b"application/json")]
        headers += [(b"content-length", str(len(body)).encode())]
        return 200, headers, body

    def _keeping(self, job_id: str, send: Send) -> Send:
        """A `send` that keeps the body of a whole job that goes through it."""
        version: int | None = None

        async def keep(message: Message) -> None:
            nonlocal version
            if message["type"] == "http.response.start" and message["status"] == 200:
                tag = next((value for name, value in message["headers"] if name == b"etag"), b"")
                version = int(tag[3:-1]) if tag else None
            elif version is not None and not message.get("more_body"):
                self._keep(job_id, version, message.get("body", b""))
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
