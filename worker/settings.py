"""Settings of a worker, from the command line or the environment (ORRERY_…), read once."""

import argparse
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nbody.cores import usable_cores

ANY_NUMBER = "*"  # at the end of a name
CACHE_BYTES = 8 * 2**30


@dataclass(frozen=True)
class WorkerSettings:
    """Everything about a worker that is not a job."""

    server: str
    token: str
    data: Path
    name: str
    slots: int
    threads: int
    log_format: Literal["text", "json"] = "text"
    cache_bytes: int = CACHE_BYTES

    @property
    def state_folder(self) -> Path:
        """Where the agent keeps what it must know after a crash."""
        return self.data / ".orrery" / "workers" / self.name


class InvalidSettings(Exception):
    """A setting is missing or wrong."""


def option_parser() -> argparse.ArgumentParser:
    """What a worker can be told; the environment has the defaults."""
    environment = os.environ
    parser = argparse.ArgumentParser(
        prog="python -m worker", description="Claims jobs from an Orrery server and trains them."
    )
    parser.add_argument(
        "--server",
        default=environment.get("ORRERY_URL", "http://127.0.0.1:8080"),
        help="address of the server (ORRERY_URL)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=environment.get("ORRERY_DATA", "data"),
        help="data folder: the server's own, or any other, to which and from which files are then "
        "sent (ORRERY_DATA)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=environment.get("ORRERY_WORKER_TOKEN_FILE"),
        help="worker token; default DATA/.orrery/worker.token (ORRERY_WORKER_TOKEN_FILE)",
    )
    parser.add_argument(
        "--name",
        default=environment.get("ORRERY_WORKER_NAME", _default_name()),
        help="name of this worker; one agent per name and data folder; worker-* is the first of "
        "worker-1, worker-2, … that none has (ORRERY_WORKER_NAME)",
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=environment.get("ORRERY_SLOTS", "1"),
        help="jobs at a time (ORRERY_SLOTS)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=environment.get("ORRERY_THREADS", "0"),
        help="most CPU threads of each job, which takes fewer while other processes are busy; 0 "
        "shares the cores between the slots (ORRERY_THREADS)",
    )
    parser.add_argument(
        "--cache-bytes",
        type=int,
        default=environment.get("ORRERY_CACHE_BYTES", str(CACHE_BYTES)),
        help="most that a worker with a folder of its own keeps of checkpoints and initial "
        "conditions, for jobs that begin with them (ORRERY_CACHE_BYTES)",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=environment.get("ORRERY_LOG_FORMAT", "text"),
        help="lines for people, or JSON objects with job ids (ORRERY_LOG_FORMAT)",
    )
    return parser


def read_settings(arguments: list[str] | None = None) -> WorkerSettings:
    """Settings from the command line; what it leaves out comes from the environment.

    Raises:
        InvalidSettings
    """
    options = option_parser().parse_args(arguments)
    if options.log_format not in {"text", "json"}:
        raise InvalidSettings("ORRERY_LOG_FORMAT must be text or json")
    if not 1 <= options.slots <= 64:
        raise InvalidSettings("slots must be between 1 and 64")
    if options.cache_bytes < 0:
        raise InvalidSettings("cache-bytes must be 0 or more")
    if not re.fullmatch(r"(?!\.)([A-Za-z0-9._:-]{1,64}|[A-Za-z0-9._:-]{1,60}\*)", options.name):
        raise InvalidSettings(
            "a worker's name is 1 to 64 letters, digits, '.', '_', ':' or '-', and may end in '*'"
        )
    token_file = Path(options.token_file or options.data / ".orrery" / "worker.token")
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidSettings(
            f"cannot read the worker token {token_file}: {error.strerror}; the server makes it at "
            "its first start"
        ) from error
    if not token or not token.isascii() or not token.isprintable():
        raise InvalidSettings(f"the worker token file {token_file} holds no token")
    threads = options.threads or max(1, usable_cores() // options.slots)
    return WorkerSettings(
        options.server.rstrip("/"),
        token,
        options.data,
        options.name,
        options.slots,
        threads,
        options.log_format,
        options.cache_bytes,
    )


def _default_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip(".") or "worker"
