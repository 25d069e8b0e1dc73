"""The shapes of ASGI, which every layer of the application has, and a message given again."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.access.roles import has_files

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def has_document(scope: Scope) -> bool:
    """Whether a request may come with a body that is a document, received whole before."""
    is_http = scope["type"] == "http" and scope["method"] in BODY_METHODS
    return is_http and not has_files(scope["path"])


def give_again(message: Message, then: Receive | None = None) -> Receive:
    """A `receive` that gives a message, and then what comes; alone, the same again and again."""
    waiting = [message]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        return message if then is None else await then()

    return receive
