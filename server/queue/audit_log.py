"""Who did what: one row for each write of a person, in the transaction that did it."""

import time

from sqlalchemy import Connection, insert

from server.access.roles import Principal
from server.database.tables import audit


def note(connection: Connection, caller: Principal, action: str, target: str) -> None:
    """Note that someone did something to something."""
    connection.execute(
        insert(audit).values(at=time.time(), token_id=caller.token_id, action=action, target=target)
    )
