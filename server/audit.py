"""Who did what: one row for each write of a person, in the transaction that did it."""

import time

from sqlalchemy import Connection, insert, select

from server.auth import Principal
from server.pages import instant, page
from server.schemas import AuditEntry, Page
from server.tables import audit


def note(connection: Connection, caller: Principal, action: str, target: str) -> None:
    """Note that someone did something to something."""
    connection.execute(
        insert(audit).values(at=time.time(), token_id=caller.token_id, action=action, target=target)
    )


def entries(
    connection: Connection,
    *,
    token_id: str | None,
    target: str | None,
    after: int | None,
    limit: int,
) -> Page[AuditEntry]:
    """What was done, the latest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit + 1)
    if token_id is not None:
        query = query.where(audit.c.token_id == token_id)
    if target is not None:
        query = query.where(audit.c.target == target)
    if after is not None:
        query = query.where(audit.c.id < after)
    found = [
        AuditEntry(
            id=row.id,
            at=instant(row.at),
            token_id=row.token_id,
            action=row.action,
            target=row.target,
        )
        for row in connection.execute(query)
    ]
    return page(found, limit)
