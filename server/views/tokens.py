"""Rows of tokens → what the API answers."""

from typing import Any

from sqlalchemy import Connection, Row, select

from server.database.tables import tokens
from server.views.pages import instant, instant_or_none
from server.wire.tokens import TokenView


def name_of(connection: Connection, token_id: str) -> str:
    """A token's name."""
    found = connection.execute(select(tokens.c.name).where(tokens.c.id == token_id)).scalar()
    return found or token_id


def list_tokens(connection: Connection) -> list[TokenView]:
    """Every token, without secrets."""
    return [token_view(row) for row in connection.execute(select(tokens).order_by(tokens.c.id))]


def token_view(row: Row[Any]) -> TokenView:
    """A token's row as the API shows it."""
    return TokenView(
        id=row.id,
        name=row.name,
        role=row.role,
        created_at=instant(row.created_at),
        expires_at=instant_or_none(row.expires_at),
        revoked_at=instant_or_none(row.revoked_at),
    )
