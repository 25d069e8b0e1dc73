"""Reports of workers, the most frequent requests of all: taken before the framework sees them.

One layer between access control and the routes. It does what the route does, with the same code;
whatever is not a valid report of a lease that holds goes on to the route, which says what is wrong.
"""

import re

from pydantic import ValidationError

from server.database.trouble import STORAGE_ERRORS
from server.errors import ServerError
from server.service import Service
from server.web.asgi import App, Receive, Scope, Send, give_again
from server.wire.workers import Report

REPORT = re.compile(r"/v1/leases/(lease_[0-9a-z]{26})/report")
JSON = (b"content-type", b"application/json")


class QuickReports:
    """Answers valid reports itself; everything else goes on to the routes."""

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        found = REPORT.fullmatch(scope["path"]) if is_post else None
        if found is None:
            await self._app(scope, receive, send)
            return
        whole = await receive()
        try:
            report = Report.model_validate_json(whole.get("body", b""))
            caller = scope["state"]["principal"]
            answer = await self._service.take_report(found[1], caller, report)
        except (ValidationError, ServerError, *STORAGE_ERRORS):
            await self._app(scope, give_again(whole, then=receive), send)
            return
        body = answer.model_dump_json().encode()
        headers = [JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
