"""Who may do what: tokens, roles, and the one place that decides.

Secrets are random and long, so a plain SHA-256 of them is a safe thing to keep. Tokens live in
memory too, by hash: a request costs no query.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from server.errors import Forbidden, NotFound, Unauthenticated
from server.ids import new_id
from server.schemas import Role
from server.tables import tokens

PREFIX = "orrery_"
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD"})
EVERYONE: frozenset[Role] = frozenset({"admin", "user", "worker", "viewer"})
PEOPLE: frozenset[Role] = frozenset({"admin", "user", "viewer"})
READABLE = frozenset(  # by people
    ("artifacts", "checkpoints", "compare", "jobs", "queue", "schemas", "sweeps", "workers")
)


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    token_id: str
    role: Role
    expires_at: float | None = None

    @property
    def owner_filter(self) -> str | None:
        """Users see their own jobs; admins and viewers see all (None)."""
        return self.token_id if self.role == "user" else None


LOCAL_ADMIN = Principal("token_local", "admin")


def allowed_roles(method: str, path: str) -> frozenset[Role]:
    """The roles that may call a method on a path. What is not named here is for admins alone."""
    resource = path.removeprefix("/v1/").partition("/")[0] if path.startswith("/v1/") else path
    if path == "/metrics" and method in SAFE_METHODS:
        return frozenset({"admin", "viewer"})
    if path in {"/version", "/openapi.json"} and method in SAFE_METHODS:
        return EVERYONE
    if path.endswith("/drain"):
        return frozenset({"admin"})
    if resource in {"workers", "leases"} and method == "POST":
        return frozenset({"worker"})
    if resource in READABLE and method in SAFE_METHODS:
        return PEOPLE
    if resource in {"jobs", "sweeps"} and method in {"POST", "PATCH", "DELETE"}:
        return frozenset({"admin", "user"})
    return frozenset({"admin"})


class Tokens:
    """The valid tokens, by the hash of their secret."""

    def __init__(self) -> None:
        self._by_hash: dict[str, Principal] = {}

    def load(self, connection: Connection) -> None:
        """Read every token that is not revoked."""
        query = select(tokens).where(tokens.c.revoked_at.is_(None))
        self._by_hash = {
            row.secret_hash: Principal(row.id, row.role, row.expires_at)
            for row in connection.execute(query)
        }

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
        known = any(valid.token_id == principal.token_id for valid in self._by_hash.values())
        return known and (principal.expires_at is None or now < principal.expires_at)


def authorize(principal: Principal, method: str, path: str) -> None:
    """Let the call pass, or raise Forbidden."""
    allowed = allowed_roles(method, path)
    if principal.role not in allowed:
        roles = " or ".join(sorted(allowed))
        raise Forbidden(f"This needs a token with the role {roles}; yours is {principal.role}.")


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
        .returning(*tokens.c)
    ).one()
    return row, secret


def revoke_token(connection: Connection, token_id: str, *, now: float) -> Any:
    """Revoke a token, once. Returns its row.

    Raises:
        NotFound
    """
    row = connection.execute(
        update(tokens).where(tokens.c.id == token_id).values(revoked_at=now).returning(*tokens.c)
    ).first()
    if row is None:
        raise NotFound(f"token {token_id}")
    return row


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
