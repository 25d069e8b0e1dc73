"""Lets pages of other sites call the API, with a token: CORS, by Starlette's own layer."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware

from server.web.asgi import App

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ASKED = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "If-Range", "Range")
ANSWERED = (
    *("Content-Disposition", "Content-Range", "ETag", "Idempotent-Replayed", "Location"),
    *("Retry-After", "X-Request-Id"),
)
REMEMBERED_S = 600


def with_other_sites(app: App, origins: Sequence[str]) -> App:
    """The application for pages of these origins, too. Cookies are of the dashboard alone."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=(*ASKED, "Last-Event-ID"),
        expose_headers=ANSWERED,
        max_age=REMEMBERED_S,
    )
