"""How many connections there may be, whose they are, and what their clients have not read.

Strangers (who have shown no valid token on their connection) share a part of all; when that is
full, the one that has been there longest makes room for the next. The rest is for those with
tokens: a crowd of strangers locks nobody out. Nor does somebody with a token: where those are full
whoever has the most makes room.
"""

import logging
import resource
from collections import OrderedDict
from typing import Protocol

from server.errors import LimitReached
from server.log_format import once_a_minute

KEPT_DESCRIPTORS = 200  # for files, the database and child processes
STRANGERS_SHARE = 0.5
MOST_OF_ADDRESS = 0.25  # of all, strangers from one address
FOR_STRANGERS = 1 / 16  # of all, kept for those who come; the token is in their first request
MOST_UNREAD_BYTES = 2**27  # of answers to one token
RETRY_S = 5.0

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """A connection, as far as this is concerned."""

    def abort(self) -> None:
        """Close it at once."""
        ...

    def unread_bytes(self) -> int:
        """What was sent and is not read."""
        ...


class Connections:
    """Those of one server.

    Args:
        most: in all.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._strangers: OrderedDict[Closable, str] = OrderedDict()  # address of each, oldest first
        self._of_address: dict[str, OrderedDict[Closable, None]] = {}
        self._known: dict[Closable, str] = {}  # whose each is
        self._of_token: dict[str, OrderedDict[Closable, None]] = {}
        self._unread: dict[Closable, str] = {}  # whose client does not read, and whose it is

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def begin(self, connection: Closable, address: str) -> None:
        """A connection was made; some other may have to go for it, or this one."""
        of_address = self._of_address.setdefault(address, OrderedDict())
        self._strangers[connection] = address
        of_address[connection] = None
        if len(of_address) > max(1, self.most * MOST_OF_ADDRESS):
            self._close(next(iter(of_address)), f"strangers at {address}")
        elif len(self._strangers) > max(1, self.most * STRANGERS_SHARE) or len(self) > self.most:
            self._close(next(iter(self._strangers)), "strangers")

    def recognise(self, connection: Closable, token_id: str) -> None:
        """It has shown a valid token.

        Raises:
            LimitReached: that token has more connections than any other, and there are no more.
        """
        if self._known.get(connection) == token_id:
            return
        is_new = connection not in self._known
        if is_new and len(self._known) >= self.most - max(1, int(self.most * FOR_STRANGERS)):
            most = max(self._of_token.values(), key=len)
            if most is self._of_token.get(token_id):
                raise LimitReached(f"{len(most)} connections of your token now", RETRY_S)
            self._close(next(iter(most)), "one token")
        is_unread = connection in self._unread
        self.end(connection)
        self._known[connection] = token_id
        self._of_token.setdefault(token_id, OrderedDict())[connection] = None
        if is_unread:
            self.leave_unread(connection)

    def end(self, connection: Closable) -> None:
        """It is closed."""
        self.read_again(connection)
        _leave(self._of_address, self._strangers.pop(connection, None), connection)
        _leave(self._of_token, self._known.pop(connection, None), connection)

    def leave_unread(self, connection: Closable) -> None:
        """Its client does not read what it is sent; where that is too much of a token, the one
        that was not read for longest makes room.
        """
        whose = self._known.get(connection)
        if whose is None:
            return
        self._unread[connection] = whose
        unread = {other: other.unread_bytes() for other, of in self._unread.items() if of == whose}
        held = sum(unread.values())
        while held > MOST_UNREAD_BYTES and len(unread) > 1:
            held -= unread.pop(oldest := next(iter(unread)))
            self._close(oldest, "one token that read too little")

    def read_again(self, connection: Closable) -> None:
        """Its client reads again."""
        self._unread.pop(connection, None)

    def _close(self, connection: Closable, of_whom: str) -> None:
        self.end(connection)
        what = f"too many connections of {of_whom}: the oldest are closed"
        logger.warning(what, extra=once_a_minute(what))
        connection.abort()


def _leave(
    groups: dict[str, OrderedDict[Closable, None]], name: str | None, connection: Closable
) -> None:
    if name is not None:
        groups[name].pop(connection)
        if not groups[name]:
            del groups[name]


def most_connections(wanted: int) -> int:
    """As many as wanted, or as file descriptors allow, whose limit is raised where it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + KEPT_DESCRIPTORS
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - KEPT_DESCRIPTORS))
