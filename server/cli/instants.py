"""Times as people write them."""

import re
from datetime import datetime, timedelta

AGO = re.compile(r"(\d{1,6})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since_when(text: str, now: datetime) -> str:
    """`30m`, `12h`, `7d` before now, or a date, local where it has no time zone; as ISO 8601.

    Raises:
        ValueError: it is neither.
    """
    if (ago := AGO.fullmatch(text)) is not None:
        return (now - timedelta(**{UNITS[ago[2]]: int(ago[1])})).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise ValueError(f"--since {text}: use 30m, 12h, 7d, or a date as 2026-03-01") from None
