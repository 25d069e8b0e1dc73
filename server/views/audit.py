"""What people did, as the API answers it."""

from sqlalchemy import Connection, select

from server.database.tables import audit
from server.views.pages import instant, page
from server.wire.messages import Page
from server.wire.tokens import AuditEntry


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
