"""What all views share: instants of rows, and pages of a list."""

from datetime import UTC, datetime
from typing import Any

from server.wire.messages import Page


def instant(seconds: float) -> datetime:
    """UTC time of a row's instant."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def instant_or_none(seconds: float | None) -> datetime | None:
    """As `instant`, for instants that may be missing."""
    return None if seconds is None else instant(seconds)


def page(items: list[Any], limit: int) -> Page[Any]:
    """A page of `items`, which hold one more than `limit` where there is more."""
    shown = items[:limit]
    return Page(
        data=shown,
        has_more=len(items) > limit,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
    )
