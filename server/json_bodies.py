"""Refuses bodies that are not JSON, and says where they are not.

One layer before the routes, whose framework takes lone surrogates and absurd nesting for JSON.
"""

from pydantic_core import from_json

from server.asgi import BODY_METHODS, App, Receive, Scope, Send, replay
from server.errors import FieldProblem, MalformedBody
from server.json_position import pointer_of


class JsonBodies:
    """Hands on what is JSON in UTF-8, or empty. The whole body has been received before."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            MalformedBody
        """
        if scope["type"] == "http" and scope["method"] in BODY_METHODS:
            whole = await receive()
            _check(whole.get("body", b""))
            receive = replay(whole, then=receive)
        await self._app(scope, receive, send)


def _check(body: bytes) -> None:
    if body:
        try:
            from_json(body)
        except ValueError as error:
            field = FieldProblem(pointer_of(body, str(error)), str(error))
            raise MalformedBody(f"The body is not valid JSON: {error}.", (field,)) from None
