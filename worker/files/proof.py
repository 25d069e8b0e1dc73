"""The proof that a worker and its server see one folder: a file that only the two know of."""

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from server.wire.workers import PROOFS


@contextmanager
def proof(data: Path) -> Generator[str]:
    """The name of a new file among the proofs of a data folder; it is gone thereafter.

    Raises:
        OSError
    """
    folder = data / PROOFS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)
