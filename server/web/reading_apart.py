"""Files that somebody sent, read in a process of their own: they may be hostile."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from server.errors import FieldProblem, InvalidRequest

TIMEOUT_S = 60.0
MOST_TOLD = 2**20  # bytes, as of a job that is submitted


def read_apart(reader: str, path: Path) -> dict[str, Any]:
    """What a file says of itself.

    Args:
        reader: a module of nbody that tells it (`nbody.config.told_apart`).

    Raises:
        InvalidRequest: it cannot be used.
    """
    command = [sys.executable, "-P", "-m", reader, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, env=_own_environment(), check=False
        )
        told: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        told = {"wrong": "it takes too much time to read"}
    except ValueError:  # it was ended, or failed in some other way
        told = {"wrong": "it takes too much time or memory to read, or is damaged"}
    if len(json.dumps(told)) > MOST_TOLD:
        told = {"wrong": f"its config is larger than {MOST_TOLD} bytes"}
    if "wrong" in told:
        raise InvalidRequest(FieldProblem("", f"the file cannot be used: {told['wrong']}"))
    return told


def _own_environment() -> dict[str, str]:
    """Without the server's secrets."""
    kept = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}
