"""Requests that may come twice: a key makes the second one get the answer of the first."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from server.database.tables import idempotency_keys
from server.errors import Conflict


class KeyReused(Conflict):
    """An idempotency key came again with another body."""

    status, code, title = 422, "idempotency_key_reused", "Idempotency key reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body; use a new key.")


class Key(NamedTuple):
    """A client's key, and what was asked with it."""

    token_id: str
    key: str
    request_hash: str


def key_of(token_id: str, key: str | None, request: Callable[[], str]) -> Key | None:
    """What is kept of a request that has a key: whose it is, and a digest of what it asks."""
    if key is None:
        return None
    return Key(token_id, key, hashlib.sha256(request().encode()).hexdigest())


def made_before(connection: Connection, key: Key | None) -> str | None:
    """The job or the sweep that a request with this key made.

    Raises:
        KeyReused: with another body.
    """
    if key is None:
        return None
    row = connection.execute(
        select(idempotency_keys).where(
            idempotency_keys.c.token_id == key.token_id, idempotency_keys.c.key == key.key
        )
    ).first()
    if row is None:
        return None
    if row.request_hash != key.request_hash:
        raise KeyReused
    return row.job_id or row.sweep_id


def remember(
    connection: Connection,
    key: Key | None,
    *,
    job_id: str | None = None,
    sweep_id: str | None = None,
    now: float,
) -> None:
    """Note what a request made; forgotten when that is deleted."""
    if key is not None:
        connection.execute(
            insert(idempotency_keys).values(
                **key._asdict(), job_id=job_id, sweep_id=sweep_id, created_at=now
            )
        )
