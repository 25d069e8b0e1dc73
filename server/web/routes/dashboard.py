"""The dashboard: static files, the same for everyone; what they show comes from the API."""

from os import PathLike
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[2] / "dashboard"
INDEX = FOLDER / "index.html"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for again by ETag: a new release is seen at once
}


class DashboardFiles(StaticFiles):
    """The page's scripts and styles."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    def file_response(
        self, full_path: PathLike[str] | str, *arguments: Any, **options: Any
    ) -> Response:
        """A file, with what a browser is to keep to."""
        answer = super().file_response(full_path, *arguments, **options)
        answer.headers.update(HEADERS)
        return answer


async def show_dashboard() -> FileResponse:
    """The dashboard. What it shows, it asks the API for, as any other client."""
    return FileResponse(INDEX, headers=HEADERS)
