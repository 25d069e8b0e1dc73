"""Tokens: made, revoked, and recognised.

Secrets are random and long, so a plain SHA-256 of them is a safe thing to keep. Tokens live in
memory too, by hash: a request costs no query.
"""

import hashlib
import secrets
from typing import Any

from sqlalchemy import Connection, insert, select, update

from server.access.roles import LOCAL_ADMIN, Principal
from server.database.ids import new_id
from server.database.tables import tokens
from server.errors import NotFound, Unauthenticated
from server.wire.tokens import Role

PREFIX = "orrery_"


class Tokens:
    """The valid tokens, by the hash of their secret."""

    def __init__(self) -> None:
        self._by_hash: dict[str, Principal] = {}
        self._by_id: dict[str, Principal] = {}

    def load(self, connection: Connection) -> None:
        """Read every token that is not revoked."""
        query = select(tokens).where(tokens.c.revoked_at.is_(None))
        self._by_hash = {
            row.secret_hash: Principal(row.id, row.role, row.expires_at)
            for row in connection.execute(query)
        }
        self._by_id = {principal.token_id: principal for principal in self._by_hash.values()}

    def of_id(self, token_id: str) -> Principal | None:
        """The principal of a token that is not revoked."""
        return self._by_id.get(token_id)

    def authenticate(self, authorization: str | None, now: float) -> Principal:
        """The principal of an Authorization header.

        Raises:
            Unauthenticated
        """
        scheme, _, secret = (authorization or "").partition(" ")
        principal = self._by_hash.get(hash_secret(secret.strip()))
        if scheme.lower() != "bearer" or principal is None:
            raise Unauthenticated
        if principal.expires_at is not None and principal.expires_at <= now:
            raise Unauthenticated
        return principal

    def holds(self, principal: Principal, now: float) -> bool:
        """Whether the token of a principal is still good: neither revoked nor expired."""
        known = principal.token_id in self._by_id
        return known and (principal.expires_at is None or now < principal.expires_at)


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def create_token(
    connection: Connection,
    name: str,
    role: Role,
    *,
    now: float,
    expires_at: float | None = None,
    secret: str | None = None,
) -> tuple[Any, str]:
    """Make a token; returns its row and its secret, which is not kept."""
    secret = secret or f"{PREFIX}{secrets.token_urlsafe(32)}"
    row = connection.execute(
        insert(tokens)
        .values(
            id=new_id("token"),
            name=name,
            role=role,
            secret_hash=hash_secret(secret),
            created_at=now,
            expires_at=expires_at,
        )
        .returning(tokens)
    ).one()
    return row, secret


def revoke_token(connection: Connection, token_id: str, *, now: float) -> Any:
    """Revoke a token, once. Returns its row.

    Raises:
        NotFound
    """
    row = connection.execute(
        update(tokens).where(tokens.c.id == token_id).values(revoked_at=now).returning(tokens)
    ).first()
    if row is None:
        raise NotFound(f"token {token_id}")
    return row


def ensure_local_admin(connection: Connection, *, now: float) -> None:
    """Without tokens everyone is one local admin; jobs need an owner all the same."""
    known = connection.execute(select(tokens.c.id).where(tokens.c.id == LOCAL_ADMIN.token_id))
    if known.first() is None:
        connection.execute(
            insert(tokens).values(
                id=LOCAL_ADMIN.token_id,
                name="local",
                role=LOCAL_ADMIN.role,
                secret_hash="no secret has this hash",
                created_at=now,
            )
        )
