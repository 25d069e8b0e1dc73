"""What a file that somebody sent says of itself, read in a process of its own, which has little
time and memory: a hostile one may ask for any of both."""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbody.errors import CheckpointUnreadable, InvalidInitialConditions

MOST_MEMORY, MOST_SECONDS = 2**30, 20


def main(read: Callable[[Path], dict[str, Any]]) -> None:
    """Print what is in the file that the command line names as JSON, or what is `wrong` with it."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    try:
        told = read(Path(sys.argv[1]))
    except (CheckpointUnreadable, InvalidInitialConditions) as error:
        told = {"wrong": error.reason}
    except (MemoryError, RecursionError):
        told = {"wrong": "it is too large"}
    sys.stdout.write(json.dumps(told))
    sys.exit(1 if "wrong" in told else 0)
