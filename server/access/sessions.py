"""Sessions of browsers: a token is shown once, and a cookie stands for it until it is logged out.

The cookie holds a secret of its own, so that nothing that a browser keeps is a token, and logging
out ends it. It is named after the port: browsers do not tell a host's ports apart.
"""

import secrets
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie

from sqlalchemy import Connection, delete, insert, select

from server.access.roles import Principal
from server.access.tokens import Tokens, hash_secret
from server.database.tables import sessions

LIFE_S = 14 * 86400
LONGEST_COOKIE = 8000


class Sessions:
    """The sessions that are open, by the hash of their secret."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._open: dict[str, tuple[str, float]] = {}

    def load(self, connection: Connection) -> None:
        """Read every session."""
        self._open = {
            row.secret_hash: (row.token_id, row.expires_at)
            for row in connection.execute(select(sessions))
        }

    def of_header(self, authorization: str, now: float) -> Principal:
        """Whose token an Authorization header has.

        Raises:
            Unauthenticated
        """
        return self._tokens.authenticate(authorization, now)

    def principal(self, secret: str, now: float) -> Principal | None:
        """Whose session a cookie is of; None where it is over, or its token is no good any more."""
        hashed = hash_secret(secret)
        token_id, expires_at = self._open.get(hashed, ("", 0.0))
        found = self._tokens.of_id(token_id)
        if found is None or now >= min(expires_at, found.expires_at or expires_at):
            return None
        return replace(found, session=hashed)

    def holds(self, principal: Principal, now: float) -> bool:
        """Whether somebody is still welcome: by the token, and by the session if it was one."""
        is_open = principal.session is None or principal.session in self._open
        return is_open and self._tokens.holds(principal, now)


def begin(connection: Connection, token_id: str, *, now: float) -> str:
    """Open a session of a token; returns its secret, which is not kept. Old ones are forgotten."""
    secret = secrets.token_urlsafe(32)
    connection.execute(delete(sessions).where(sessions.c.expires_at < now))
    connection.execute(
        insert(sessions).values(
            secret_hash=hash_secret(secret),
            token_id=token_id,
            created_at=now,
            expires_at=now + LIFE_S,
        )
    )
    return secret


def end(connection: Connection, hashed: str) -> None:
    """Close a session."""
    connection.execute(delete(sessions).where(sessions.c.secret_hash == hashed))


def cookie_name(host: str) -> str:
    """The name of the cookie of a server at `host`, as in the Host header."""
    port = host.rpartition(":")[2]
    return f"orrery_{port}" if port.isdigit() else "orrery"


def cookie_of(header: bytes | None, host: str) -> str | None:
    """The session's secret in a Cookie header."""
    if header is None or len(header) > LONGEST_COOKIE:
        return None
    try:
        found = SimpleCookie(header.decode("latin-1")).get(cookie_name(host))
    except CookieError:
        return None
    return None if found is None else found.value
