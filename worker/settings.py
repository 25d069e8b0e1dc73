"""Settings of a worker, from the command line or the environment (ORRERY_…), read once."""

import argparse
import math
import os
import re
import socket
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from nbody.cores import usable_cores
from worker.lifetime import Bounds

ANY_NUMBER = "*"  # at the end of a name
CACHE_BYTES = 8 * 2**30
FOR_EVER = Bounds()
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
LABEL = re.compile(r"[A-Za-z0-9._:-]{1,64}=[^\x00-\x1f\x7f,]{0,200}")
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


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
    authorities: Path | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])
    bounds: Bounds = FOR_EVER

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
        "--ca",
        type=Path,
        default=environment.get("ORRERY_CA"),
        metavar="FILE",
        help="certificates of the authority that the server's is of, in PEM format; default: "
        "SSL_CERT_FILE's, else the system's and the usual ones (ORRERY_CA)",
    )
    parser.add_argument(
        "--label",
        action="append",
        metavar="KEY=TEXT",
        help="jobs may ask for it; can be repeated (ORRERY_WORKER_LABELS, separated by commas)",
    )
    parser.add_argument("--once", action="store_true", help="take one job, and end")
    parser.add_argument("--max-jobs", type=int, metavar="N", help="take so many jobs, and end")
    parser.add_argument(
        "--idle-exit", type=float, metavar="S", help="end when there was no job for so long [s]"
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="end then: 90s, 30m, 12h, or a date and time; half a minute before, jobs are handed "
        "back after a last checkpoint, and none is begun that is known to get nowhere",
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
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", options.server):
        raise InvalidSettings(
            f"{options.server!r} is no address of a server, as http://127.0.0.1:8080 is"
        )
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
        options.ca,
        _labels(options),
        _bounds(options),
    )


def _labels(options: argparse.Namespace) -> dict[str, str]:
    of_environment = os.environ.get("ORRERY_WORKER_LABELS", "").split(",")
    given = options.label or [text.strip() for text in of_environment if text.strip()]
    for text in given:
        if not LABEL.fullmatch(text):
            raise InvalidSettings(
                f"label {text!r}: use KEY=TEXT, the key of letters, digits, '.', '_', ':' or '-'"
            )
    return {key: text for key, _, text in (each.partition("=") for each in given)}


def _bounds(options: argparse.Namespace) -> Bounds:
    if options.max_jobs is not None and options.max_jobs < 1:
        raise InvalidSettings("max-jobs must be at least 1")
    if options.idle_exit is not None and not 0 <= options.idle_exit < math.inf:
        raise InvalidSettings("idle-exit must be 0 or more seconds")
    most = [jobs for jobs in (options.max_jobs, 1 if options.once else None) if jobs is not None]
    until = None if options.until is None else _instant(options.until)
    return Bounds(min(most, default=None), options.idle_exit, until)


def _instant(text: str) -> float:
    """Seconds since 1970 of a date, local where it has no time zone, or of so long from now."""
    if (match := DURATION.fullmatch(text)) is not None:
        return time.time() + float(match[1]) * UNITS_S[match[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise InvalidSettings(f"until {text}: use 90s, 30m, 12h or 2026-03-01T08:00") from None


def _default_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip(".") or "worker"
