"""What stands before every route: request id, host and origin, token and role, body size and time.

One ASGI layer, outermost, so that a route that is added later is closed until `auth.allowed_roles`
opens it.
"""

import asyncio
import json
import logging
import time
from functools import lru_cache
from urllib.parse import urlsplit

from server.access import roles
from server.access.sessions import Sessions, cookie_of
from server.access.write_rate import MOST_UNCOUNTED_BYTES, UNCOUNTED, WriteRate
from server.database.ids import new_id
from server.database.trouble import log_failure, trouble_of
from server.errors import (
    BodyTooLarge,
    Forbidden,
    Misdirected,
    ServerError,
    Stopping,
    Unauthenticated,
)
from server.log_format import REQUEST_ID
from server.settings import ServerSettings, is_loopback
from server.telemetry import Telemetry
from server.web.asgi import BODY_METHODS, App, Message, Receive, Scope, Send
from server.web.layers.large_refusals import LARGE_BYTES, LargeRefusals, length_of
from server.web.layers.unread_bodies import closing_if_unread
from server.web.layers.whole_bodies import receive_whole
from server.web.public_place import PublicPlace
from server.web.route_names import RouteNames, is_to_wait

LATE_S = 0.5  # an answer that took longer waited for something
REFUSED_UNREAD = frozenset({401, 403, 421, 429})  # before the body was looked at
LONGEST_HOST = 300  # a name and a port
LARGEST_PIECE = 2**27  # bytes of a file of a worker's, sent at once

Headers = dict[bytes, bytes]

logger = logging.getLogger(__name__)


class AccessControl:
    """Lets through what may pass; answers the rest with a problem."""

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        sessions: Sessions,
        telemetry: Telemetry,
        routes: RouteNames,
    ) -> None:
        self._app, self._settings, self._sessions = app, settings, sessions
        self._public = PublicPlace.of(settings.public_url)
        self._telemetry, self._routes = telemetry, routes
        self._writes = WriteRate(settings.writes_per_minute)
        self._refusals = LargeRefusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req")
        REQUEST_ID.set(request_id)
        scope.setdefault("state", {}).update(request_id=request_id, method=scope["method"])
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = list(message.get("headers", ()))
                own += [
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
                if not any(name == b"cache-control" for name, _ in own):
                    own.append((b"cache-control", b"no-store"))
                message["headers"] = self._public.prefixed(own)
            await send(message)

        try:
            await self._let_in(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server ends, and waits no longer for this
            if not status:
                await send_problem(send_with_id, Stopping(), request_id)
        except Exception as error:  # noqa: BLE001 - the last that can answer
            if not status:  # else it is under way: cut off, or logged where it was raised
                problem = _problem_of(error, request_id)
                if problem.status in REFUSED_UNREAD:
                    problem.closes = not await self._refusals.rest(scope)
                await send_problem(send_with_id, problem, request_id)
        finally:
            duration = time.perf_counter() - started
            method, path = scope["method"], scope["path"]
            waits = is_to_wait(path, scope["query_string"])
            self._telemetry.count_request(
                method, self._routes.of(path), status, duration, waits=waits
            )
            if logger.isEnabledFor(logging.INFO):
                _log(method, path, status, round(1000 * duration, 1))

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self._check_site(headers)
        self._check_access(scope, headers)
        if roles.is_upload(scope["method"], scope["path"]):
            is_piece = roles.is_piece(scope["method"], scope["path"])
            most = LARGEST_PIECE if is_piece else self._settings.max_upload_bytes
            if length_of(headers) > most:
                raise BodyTooLarge(most)
            receive, send = closing_if_unread(receive, send)
        elif scope["method"] in BODY_METHODS:
            limit = self._most_bytes(scope["path"])
            receive, size = await receive_whole(
                receive, headers, limit, self._settings.body_timeout_s
            )
            if b"transfer-encoding" in headers and size >= LARGE_BYTES:
                self._count(scope, size)  # which nobody knew before
        elif length_of(headers) >= LARGE_BYTES:
            raise BodyTooLarge(LARGE_BYTES)  # nobody asked for it, and nobody reads it
        await self._app(_as_get(scope), receive, self._while_welcome(scope, send))

    def _most_bytes(self, path: str) -> int:
        if path == roles.SESSION:
            return MOST_UNCOUNTED_BYTES
        if path.startswith("/v1/leases/"):
            return self._settings.max_report_bytes
        most = self._settings.max_body_bytes
        return min(most, MOST_UNCOUNTED_BYTES) if path.endswith(UNCOUNTED) else most

    def _check_site(self, headers: Headers) -> None:
        """Against DNS rebinding and foreign pages: the host is ours, and so is the page."""
        host = headers.get(b"host", b"").decode("latin-1")
        name = host_name(f"//{host}") if len(host) <= LONGEST_HOST else ""
        own = "localhost", self._public.host, *self._settings.allowed_hosts
        if not (is_address(name) or name in own):
            raise Misdirected
        origin = headers.get(b"origin")
        if origin is None:
            return
        told = origin.decode("latin-1")
        welcome = self._public.origin, *self._settings.cors_origins
        if told.partition("://")[2] != host and told not in welcome:
            raise Forbidden("Requests from pages of other sites are not answered.")

    def _check_access(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if roles.is_public(scope["method"], path):
            return
        if self._settings.auth:
            principal = self._principal(scope["method"], headers)
            if (connection := scope["state"].get("connection")) is not None:
                connection.recognise(principal.token_id)
            roles.authorize(principal, scope["method"], path)
        else:
            principal = roles.LOCAL_ADMIN
        scope["state"]["principal"] = principal
        self._count(scope, length_of(headers))
        roles.CALLER.set(principal.token_id)

    def _principal(self, method: str, headers: Headers) -> roles.Principal:
        """Whose token a request comes with, or whose session.

        Raises:
            Unauthenticated, Forbidden
        """
        now = time.time()
        host = headers.get(b"host", b"").decode("latin-1")
        cookie = cookie_of(headers.get(b"cookie"), host)
        origin = headers.get(b"origin", b"").decode("latin-1")
        # A page of another site that may call has a token; browsers send it our cookies, too, where
        # both are of one domain.
        is_foreign = origin in self._settings.cors_origins and origin != self._public.origin
        if cookie is None or is_foreign or b"authorization" in headers:
            return self._sessions.of_header(
                headers.get(b"authorization", b"").decode("latin-1"), now
            )
        found = self._sessions.principal(cookie, now)
        if found is None:
            raise Unauthenticated
        if method not in roles.SAFE_METHODS and b"origin" not in headers:
            raise Forbidden("A page that changes something says where it is of (Origin).")
        return found

    def _count(self, scope: Scope, size: int) -> None:
        path, principal = scope["path"], scope["state"].get("principal")
        if scope["method"] not in BODY_METHODS or principal is None or principal.role == "worker":
            return
        if not (path.endswith(UNCOUNTED) or path.startswith(roles.OF_WORKERS)):
            most = self._settings.max_body_bytes  # no more of it is kept
            self._writes.spend(principal.token_id, min(size, most))

    def _while_welcome(self, scope: Scope, send: Send) -> Send:
        """An answer that comes late, after a wait, is not for a token that is good no more."""
        caller = scope["state"].get("principal")
        if caller is None or not self._settings.auth:
            return send
        began, refused = time.perf_counter(), False

        async def send_or_refuse(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                is_late = time.perf_counter() - began > LATE_S
                refused = is_late and not self._sessions.holds(caller, time.time())
                if refused:
                    await send_problem(send, Unauthenticated(), scope["state"]["request_id"])
            if not refused:
                await send(message)

        return send_or_refuse


def _problem_of(error: Exception, request_id: str) -> ServerError:
    if isinstance(error, ServerError):
        return error
    log_failure(logger, f"unexpected error in request {request_id}", error)
    return trouble_of(error) or ServerError.unexpected()


def _as_get(scope: Scope) -> Scope:
    """HEAD is answered as GET is; the body is left out further down. A stream has no end to it.

    What was asked for stays in the scope's state, for those who save work with it.
    """
    if scope["method"] != "HEAD" or scope["path"].endswith("/stream"):
        return scope
    return {**scope, "method": "GET"}


def _log(method: str, path: str, status: int, milliseconds: float) -> None:
    about = {"method": method, "path": path, "status": status, "milliseconds": milliseconds}
    line = "%s %s %d %.1f ms"
    logger.info(line, method, ascii(path), status, milliseconds, extra=about)


async def send_problem(send: Send, error: ServerError, request_id: str) -> None:
    """Answer with a problem document."""
    body = json.dumps(error.problem(request_id)).encode()
    headers = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        **error.headers,
    }
    if error.closes:
        headers["connection"] = "close"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=1024)
def host_name(url: str) -> str:
    """The host that a URL names, in lower case; "" where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def is_address(name: str) -> bool:
    """Whether a host is an IP address: no DNS, so nothing to rebind."""
    return is_loopback(name) or name.replace(".", "").isdigit() or ":" in name
