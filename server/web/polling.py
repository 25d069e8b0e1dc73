"""The rules of polling: versions as ETags, when to come again, long polls that wait for a change.

A job's version changes with everything that a client sees of it, but for a waiting job's place in
the queue, which changes with other jobs: of such a job the version does not tell all.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from server.queue.changes import Changes
from server.wire.states import TERMINAL, JobStatus

Seen = TypeVar("Seen")
RETRY_AFTER_S = "2"  # of jobs that are not over


def entity_tag(version: int) -> str:
    """The ETag of a version."""
    return f'W/"{version}"'


def version_of(tag: str) -> int | None:
    """The version that an ETag of ours names; None where there is none."""
    return int(tag[3:-1]) if tag else None


def headers_of(version: int, status: JobStatus) -> dict[str, str]:
    """The headers of an answer that shows a job: its version, and when to come again."""
    again = {} if status in TERMINAL else {"Retry-After": RETRY_AFTER_S}
    return {"ETag": entity_tag(version), **again}


def is_told_by_version(status: JobStatus) -> bool:
    """Whether a job of one version always looks the same."""
    return status is not JobStatus.QUEUED


def is_known(version: int, status: JobStatus, if_none_match: str | None) -> bool:
    """Whether a client has what would be shown, as its If-None-Match says, weak or not."""
    tags = (part.strip().removeprefix("W/") for part in (if_none_match or "").split(","))
    known = {tag[1:-1] for tag in tags if len(tag) > 2 and tag[0] == tag[-1] == '"'}
    return str(version) in known and is_told_by_version(status)


async def wait_for_news(
    changes: Changes,
    topic: str,
    look: Callable[[], Awaitable[Seen]],
    is_news: Callable[[Seen], bool],
    wait_s: float,
) -> Seen:
    """What is seen once it is news, or as it is after `wait_s`."""
    with changes.subscribe(topic) as subscription:
        deadline = time.monotonic() + wait_s
        while True:
            seen = await look()
            left = deadline - time.monotonic()
            if is_news(seen) or left <= 0:
                return seen
            await subscription.wait(left)
