"""How many connections there may be, and whose they are.

Strangers (who have shown no valid token on their connection) share a part of all; when that is
full, the one that has been there longest makes room for the next. The rest is a reserve for those
with tokens: a crowd of strangers locks nobody out.
"""

import logging
import resource
from collections import OrderedDict
from typing import Protocol

from server.log_format import once_a_minute

KEPT_DESCRIPTORS = 200  # for files, the database and child processes
STRANGERS_SHARE = 0.5
MOST_OF_ADDRESS = 0.25  # of all, strangers from one address

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """A connection, as far as this is concerned."""

    def abort(self) -> None:
        """Close it at once."""
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
        self._known: set[Closable] = set()

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

    def recognise(self, connection: Closable) -> None:
        """It has shown a valid token."""
        if connection in self._strangers:
            self.end(connection)
            self._known.add(connection)

    def end(self, connection: Closable) -> None:
        """It is closed."""
        self._known.discard(connection)
        address = self._strangers.pop(connection, None)
        if address is not None:
            self._of_address[address].pop(connection)
            if not self._of_address[address]:
                del self._of_address[address]

    def _close(self, connection: Closable, of_whom: str) -> None:
        self.end(connection)
        what = f"too many connections of {of_whom}: the oldest are closed"
        logger.warning(what, extra=once_a_minute(what))
        connection.abort()


def most_connections(wanted: int) -> int:
    """As many as wanted, or as file descriptors allow, whose limit is raised where it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + KEPT_DESCRIPTORS
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - KEPT_DESCRIPTORS))
