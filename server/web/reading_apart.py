"""Files that somebody sent, read in a process of their own: they may be hostile."""

import json
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
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        told: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        told = {"wrong": "it takes too much time or memory to read"}
    if len(json.dumps(told)) > MOST_TOLD:
        told = {"wrong": f"its config is larger than {MOST_TOLD} bytes"}
    if "wrong" in told:
        raise InvalidRequest(FieldProblem("", f"the file cannot be used: {told['wrong']}"))
    return told
