"""Where somebody's token is, and what to say where it is none."""

import os
from pathlib import Path
from typing import NamedTuple


class FoundToken(NamedTuple):
    """A token, and where it is from, in words."""

    secret: str | None
    whence: str


def find_token(data: Path, token_file: Path | None = None) -> FoundToken:
    """The token in a file that is named, or of the environment, or of a server's data folder.

    Raises:
        OSError: the file that is named cannot be read.
        ValueError: what was found is no token.
    """
    secret = os.environ.get("ORRERY_TOKEN") or None
    own = data / ".orrery" / "admin.token"
    path = token_file or (own if secret is None and own.is_file() else None)
    if path is not None:
        return _token(path.read_text(encoding="utf-8").strip(), str(path))
    if secret is not None:
        return _token(secret, "$ORRERY_TOKEN")
    return FoundToken(
        None,
        f"none: no {own} is here. Go where the server's data folder is, or name it by --data; "
        "elsewhere name a --token-file or set $ORRERY_TOKEN (an admin makes one with `orrery token "
        "create NAME`)",
    )


def _token(secret: str, whence: str) -> FoundToken:
    if not secret.isascii() or not secret.isprintable():
        raise ValueError(f"what {whence} holds is no token: it has characters that none has")
    return FoundToken(secret, whence)


def refusal(url: str, found: FoundToken) -> str:
    """Why a server lets nobody in, and what to do."""
    if found.secret is None:
        return f"the server at {url} asks for a token, and there is {found.whence}"
    return f"the server at {url} does not take the token; it is from {found.whence}"
