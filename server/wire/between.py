"""Answers that are not the server's: of a proxy in front of it, or of another program."""

import re
from collections.abc import Mapping

HINTS = {
    413: "it takes no bodies of this size (nginx: client_max_body_size)",
    502: "the server behind it does not answer",
    503: "the server behind it does not answer",
    504: "the server behind it did not answer in time (nginx: proxy_read_timeout)",
}
TITLE = re.compile(r"<title>\s*([^<]{1,200}?)\s*</title>", re.IGNORECASE)


def not_ours(status: int, headers: Mapping[str, str], text: str) -> str:
    """What an answer means that is no document of ours: its HTML is of a proxy, mostly."""
    if "html" not in headers.get("content-type", ""):
        return text[:200] or f"HTTP {status}"
    title = TITLE.search(text)
    said = title[1] if title else f"HTTP {status}"
    who = headers.get("server", "something")
    hint = HINTS.get(status, "is this the address of an Orrery server?")
    return f"{who} in between answered {said!r}: {hint}"
