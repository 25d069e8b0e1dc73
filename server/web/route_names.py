"""From the path of a request to the route that it is for: one of few names, for metrics."""

import re
from collections.abc import Iterable

from server.access.roles import PAGE

ID = re.compile(r"/(?:job|ckpt|file|sweep|worker|lease|token)_[0-9a-z]+(?=/|$)")
PARAMETER = re.compile(r"\{\w+\}")
WAITING = ("/claim", "/stream")
OTHER = "other"


class RouteNames:
    """The routes of an application.

    Args:
        paths: their templates, as the OpenAPI document has them.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._known = {PARAMETER.sub("{id}", path) for path in paths}

    def of(self, path: str) -> str:
        """The template of a path; whatever is asked for that there is not is `other`."""
        if path.startswith(PAGE) or path == "/":
            return "dashboard"
        name = ID.sub("/{id}", path)
        return name if name in self._known else OTHER


def is_to_wait(path: str, query: bytes) -> bool:
    """Whether an answer may come late because it was asked to."""
    return path.endswith(WAITING) or b"wait=" in query
