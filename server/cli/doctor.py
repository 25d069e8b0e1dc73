"""What is wrong with an installation, and what to do about it: `orrery doctor`.

Each check looks at one thing and answers one finding. Nothing is changed.
"""

import fcntl
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.table import Column, Table
from rich.text import Text

from nbody.durable_file import is_file_of
from server import __version__
from server.client import ApiProblem, Client, ClientError
from server.data_folder import locate
from server.database.engines import DatabaseDamaged, check_integrity
from server.database.filesystems import NETWORK_FILESYSTEMS, NetworkFilesystem, filesystem_of
from server.database.migrate import scripts
from server.errors import NotFound
from server.settings import ServerSettings
from server.store.kept_files import KeptFiles
from server.store.s3 import StoreUnavailable

HEARD_S = 300.0  # a worker that was not heard of for longer is not there
FREE_BYTES = 2 * 2**30  # of disk, below which a warning is due
OLDEST_SQLITE = (3, 35, 0)  # RETURNING


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    level: Literal["ok", "warning", "error"]
    about: str
    detail: str


def examine(settings: ServerSettings, client: Client) -> Iterator[Finding]:
    """Every check, one after the other; in a folder of workers, what they need.

    Args:
        client: of the server that should be running.
    """
    if _is_of_workers(settings):
        for check in (_versions, _torch, _agents, _disk):
            yield from check(settings)
        yield from _server(client, _token_of_workers)
        return
    for check in (_versions, _torch, _data_folder, _disk, _database, _files, _tokens):
        yield from check(settings)
    yield from _server(client, _workers)


def _is_of_workers(settings: ServerSettings) -> bool:
    """Whether only workers have been in a data folder."""
    return _workers_folder(settings).is_dir() and not settings.database_path.exists()


def _workers_folder(settings: ServerSettings) -> Path:
    return settings.state_folder / "workers"


def _agents(settings: ServerSettings) -> Iterator[Finding]:
    """Which workers run in a folder of theirs."""
    folder = _workers_folder(settings)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("error", "data folder", f"{folder} cannot be written by this user")
        return
    yield Finding("ok", "data folder", f"{settings.data.resolve()}, of workers: files are sent")
    names = sorted(lock.parent.name for lock in folder.glob("*/lock") if _is_held(lock))
    here = f"{', '.join(names)} run here" if names else "none runs here"
    yield Finding("ok" if names else "warning", "workers", here)


def _is_held(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _token_of_workers(client: Client) -> Iterator[Finding]:
    session = client.session()
    if session["role"] == "worker":
        yield Finding("ok", "token", f"{session['name']}, of the role worker")
    else:
        detail = f"{session['name']} is of the role {session['role']}; workers need one of `worker`"
        yield Finding("error", "token", f"{detail} (`orrery token create NAME --role worker`)")


def _versions(settings: ServerSettings) -> Iterator[Finding]:
    del settings
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "versions", f"orrery {__version__}, Python {python}")
    found = tuple(map(int, sqlite3.sqlite_version.split(".")))
    if found < OLDEST_SQLITE:
        yield Finding("error", "sqlite", f"{sqlite3.sqlite_version} is too old: use 3.35 or newer")


def _torch(settings: ServerSettings) -> Iterator[Finding]:
    del settings
    if find_spec("torch") is None and find_spec("wandb") is None:  # as the server's image
        detail = "is left out of this installation: it serves jobs, and workers elsewhere train"
        yield Finding("ok", "torch", detail)
        return
    if find_spec("torch") is None:
        yield Finding("error", "torch", "is not installed: workers cannot train; pip install torch")
        return
    tool = shutil.which("nvidia-smi")
    built = version("torch").partition("+")[2] or "default build"
    if tool is None:
        yield Finding("ok", "torch", f"{version('torch')}; no NVIDIA driver here: jobs run on CPUs")
    elif built == "cpu":
        detail = f"{version('torch')} is built for CPUs, but there is an NVIDIA driver"
        yield Finding("warning", "torch", f"{detail}; install a CUDA build to use the GPUs")
    else:
        yield Finding("ok", "torch", f"{version('torch')} ({built}), NVIDIA driver found")
    for package, use in (("matplotlib", "pictures"), ("rebound", "comparisons with IAS15")):
        try:
            version(package)
        except PackageNotFoundError:
            yield Finding("ok", package, f"is not installed; only needed for {use}")


def _data_folder(settings: ServerSettings) -> Iterator[Finding]:
    folder = settings.data
    if not folder.is_dir():
        detail = f"{folder} is not there; the server makes it, or name another with --data"
        yield Finding("warning", "data folder", detail)
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("error", "data folder", f"{folder} cannot be written by this user")
        return
    kind = filesystem_of(settings.state_folder)
    if kind in NETWORK_FILESYSTEMS:
        yield Finding("error", "data folder", str(NetworkFilesystem(settings.state_folder, kind)))
    else:
        yield Finding("ok", "data folder", f"{folder.resolve()} ({kind or 'unknown'} filesystem)")


def _disk(settings: ServerSettings) -> Iterator[Finding]:
    if settings.data.is_dir():
        free = shutil.disk_usage(settings.data).free
        level = "ok" if free >= FREE_BYTES else "warning"
        more = "" if free >= FREE_BYTES else "; free some, or set ORRERY_DISK_QUOTA_BYTES"
        yield Finding(level, "disk", f"{free / 2**30:.1f} GiB free{more}")


def _database(settings: ServerSettings) -> Iterator[Finding]:
    path = settings.database_path
    if not path.exists():
        yield Finding("ok", "database", "is made when the server first starts")
        return
    try:
        check_integrity(path)
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            (present,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (DatabaseDamaged, sqlite3.Error, TypeError) as error:
        yield Finding("error", "database", str(error))
        return
    known = [script.revision for script in scripts().walk_revisions()]
    if present not in known:
        detail = f"is of a later release (schema {present}); install that one, or restore a backup"
        yield Finding("error", "database", detail)
    elif present != known[0]:
        yield Finding("ok", "database", f"whole; the server's start upgrades it to {known[0]}")
    else:
        yield Finding("ok", "database", f"whole, schema {present}")


def _files(settings: ServerSettings) -> Iterator[Finding]:
    """Every file that the API lists: there, with the size and the sha256 that it had."""
    path = settings.database_path
    if not path.exists():
        return
    query = " UNION ALL ".join(
        f"SELECT path, bytes, sha256 FROM {table}"
        for table in ("checkpoints WHERE NOT rolling", "artifacts", "initial_conditions")
    )
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            listed = connection.execute(query).fetchall()
    except sqlite3.Error:
        return  # said before
    try:
        kept = KeptFiles.of(settings)
    except StoreUnavailable as error:
        yield Finding("error", "store", str(error))
        return
    wrong = [row for row in listed if not _is_whole(settings.data, *row)]
    try:
        wrong = [path for path, size, _ in wrong if not kept.has(path, size)]
    except StoreUnavailable as error:
        detail = f"{error}; whether it has {len(wrong)} files that are not here was not seen"
        yield Finding("error", "store", detail)
        return
    if wrong:
        some = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
        detail = f"{len(wrong)} of {len(listed)} are gone or damaged: {some}; restore them"
        yield Finding("error", "files", detail)
    else:
        yield Finding("ok", "files", f"all {len(listed)} that are listed are there, and whole")


def _is_whole(data: Path, relative: str, size: int, sha256: str) -> bool:
    try:
        return is_file_of(locate(data, relative, size), sha256)
    except (NotFound, OSError):
        return False


def _tokens(settings: ServerSettings) -> Iterator[Finding]:
    for path in (settings.admin_token_path, settings.worker_token_path):
        if not path.exists():
            yield Finding("ok", path.name, "is made when the server first starts")
        elif not os.access(path, os.R_OK):
            yield Finding("error", path.name, f"{path} cannot be read by this user")
        elif path.stat().st_uid != os.getuid():  # a secret that was mounted: who did it guards it
            yield Finding("ok", path.name, f"{path}, of another user")
        elif path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield Finding("warning", path.name, f"others can read {path}; chmod 600 it")
        else:
            yield Finding("ok", path.name, "only its owner can read it")


def _server(client: Client, more: Callable[[Client], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        running = client.version()["version"]
    except ClientError as error:
        yield Finding("warning", "server", str(error))
        return
    if running == __version__:
        yield Finding("ok", "server", f"{client.url} answers, version {running}")
    else:
        detail = f"{client.url} runs version {running}, this is {__version__}; restart the server"
        yield Finding("warning", "server", detail)
    yield from more(client)


def _workers(client: Client) -> Iterator[Finding]:
    try:
        workers = client.workers()["data"]
        waiting = client.jobs(status="queued", limit=1)["data"]
    except ApiProblem as error:
        is_a_workers = error.status == 403
        detail = "not looked at: the token here is a worker's" if is_a_workers else str(error)
        yield Finding("ok" if is_a_workers else "warning", "workers", detail)
        return
    for worker in workers:
        if worker.get("refusal"):
            detail = f"{worker['name']} on {worker['host']} was refused: {worker['refusal']}"
            yield Finding("error", "worker", detail)
        elif worker.get("trouble") and _is_alive(worker):
            detail = f"{worker['name']} on {worker['host']} takes no jobs: {worker['trouble']}"
            yield Finding("error", "worker", detail)
        elif troubles := [gpu["trouble"] for gpu in worker["gpu_vitals"] if gpu.get("trouble")]:
            detail = f"{worker['name']} on {worker['host']} has fewer GPUs: {'; '.join(troubles)}"
            yield Finding("warning", "worker", detail)
    alive = {worker["name"] for worker in workers if _is_alive(worker)}
    if alive:
        yield Finding("ok", "workers", ", ".join(sorted(alive)))
    else:
        detail = "none was heard of in the last five minutes"
        waits = "; jobs are waiting: start one with `orrery work`" if waiting else ""
        yield Finding("warning" if waiting else "ok", "workers", detail + waits)


def _is_alive(worker: dict[str, Any]) -> bool:
    seen = worker["last_seen_at"]
    if seen is None or worker.get("refusal") or worker.get("left_at"):
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(seen)).total_seconds() < HEARD_S


def findings_table(findings: list[Finding]) -> Table:
    """What a look at an installation found, one thing a line."""
    styles = {"ok": "green", "warning": "yellow", "error": "red"}
    table = Table("", "about", Column("finding", overflow="fold"), box=None)
    for finding in findings:
        level = Text(finding.level, style=styles[finding.level])
        table.add_row(level, finding.about, Text(finding.detail))
    return table
