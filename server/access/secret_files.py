"""Secrets that the server keeps in files, readable by their owner alone."""

import os
import secrets
from pathlib import Path

from sqlalchemy import Connection, select, update

from server.access.tokens import PREFIX, create_token, hash_secret
from server.database.tables import tokens
from server.wire.tokens import Role


def read_or_make_secret(path: Path) -> str:
    """The secret in a token file; the file is made, readable by its owner alone, where missing."""
    if path.exists():
        secret = path.read_text(encoding="utf-8").strip()
        if len(secret) < 16:
            raise ValueError(f"{path}: a token needs at least 16 characters")
        return secret
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = f"{PREFIX}{secrets.token_urlsafe(32)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{secret}\n")
    return secret


def check(path: Path) -> None:
    """Look whether the secret in a token file can be read, or made.

    Raises:
        OSError: it cannot. ValueError: it is too short.
    """
    try:
        read_or_make_secret(path)
    except OSError as error:
        what = f"cannot read or make the token file {path}: {error.strerror}"
        raise OSError(f"{what}; it must be a file that the server's user can read") from error


def ensure_file_token(connection: Connection, path: Path, role: Role, *, now: float) -> None:
    """The token in a file is valid with this role; a file that was replaced replaces its token."""
    secret = read_or_make_secret(path)
    name = f"{role} (file)"
    known = connection.execute(
        select(tokens).where(tokens.c.secret_hash == hash_secret(secret))
    ).first()
    if known is None:
        connection.execute(
            update(tokens)
            .where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        create_token(connection, name, role, now=now, secret=secret)
    elif known.role != role:
        raise ValueError(f"{path}: this token exists with the role {known.role}, not {role}")
