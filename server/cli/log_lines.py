"""A job's log, line by line: its end, what matches, and what is still to come."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from server.wire.states import TERMINAL

if TYPE_CHECKING:
    from server.client import Client

LOOK_EVERY_S = 1.0
REST = TERMINAL | {"paused"}  # nothing is written in these


def lines_of(
    client: "Client",
    job_id: str,
    *,
    follow: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[bytes]:
    """The lines of a log, to its present end or, followed, until the job rests; the last one may
    have no end of its own."""
    offset, rest = 0, b""
    with client.over_restarts():
        while True:
            rests = not follow or client.job(job_id)["status"] in REST  # asked before the last look
            while piece := client.logs(job_id, offset):
                offset += len(piece)
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
            if rests:
                break
            sleep(LOOK_EVERY_S)
    if rest:
        yield rest


def chosen(lines: Iterable[bytes], pattern: str | None) -> Iterator[bytes]:
    """The lines that a regular expression is found in; all of them without one.

    Raises:
        ValueError: it is no regular expression.
    """
    if pattern is None:
        return iter(lines)
    try:
        wanted = re.compile(pattern.encode())
    except re.error as error:
        raise ValueError(f"--grep {pattern!r}: {error}") from error
    return (line for line in lines if wanted.search(line))


def print_log(
    client: "Client", job_id: str, *, follow: bool, tail: int | None, grep: str | None
) -> None:
    """Print the last `tail` lines that match, or all, and what follows."""
    if tail is None:
        _write(chosen(lines_of(client, job_id, follow=follow), grep))
        return
    there = list(lines_of(client, job_id, follow=False))
    _write(deque(chosen(there, grep), maxlen=tail))
    if follow:
        more = lines_of(client, job_id, follow=True)
        for _ in there:  # a last line without its end is printed again, whole
            next(more, None)
        _write(chosen(more, grep))


def _write(lines: Iterable[bytes]) -> None:
    for line in lines:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
