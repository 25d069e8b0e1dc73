"""Refuses bodies that are not JSON, and says where they are not.

One layer before the routes, whose framework takes lone surrogates and absurd nesting for JSON.
"""

from pydantic_core import from_json

from server.errors import FieldProblem, MalformedBody
from server.web.asgi import App, Receive, Scope, Send, give_again, has_document
from server.web.layers.json_position import pointer_of


class JsonBodies:
    """Hands on what is JSON in UTF-8, or empty. The whole body has been received before."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            MalformedBody
        """
        if has_document(scope):
            whole = await receive()
            body = whole.get("body", b"")
            if body:
                _check_type(scope)
                if not scope["state"].get("is_json"):
                    _check(body)
            receive = give_again(whole, then=receive)
        await self._app(scope, receive, send)


def _check_type(scope: Scope) -> None:
    """Refuse a body with another content type than JSON's; without one it is taken for JSON."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    name = kind.partition(b";")[0].strip().lower()
    if name and not (name == b"application/json" or name.endswith(b"+json")):
        raise MalformedBody("Send JSON, with the header Content-Type: application/json.")


def _check(body: bytes) -> None:
    try:
        from_json(body)
    except ValueError as error:
        field = FieldProblem(pointer_of(body, str(error)), str(error))
        raise MalformedBody(f"The body is not valid JSON: {error}.", (field,)) from None
