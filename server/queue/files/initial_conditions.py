"""Initial conditions that users sent: each in a folder of its own, for jobs of its owner alone.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, union_all

from server.access.roles import LOCAL_ADMIN
from server.database.tables import initial_conditions, jobs, sweeps, tokens
from server.errors import Conflict, FieldProblem, InvalidRequest, LimitReached
from server.queue.limits import STORED_RETRY_S
from server.queue.ownership import visible
from server.wire.states import TERMINAL
from server.wire.sweeps import SweepStatus

FOLDER = "inputs"
SENT = re.compile(rf"(?:^|/){FOLDER}/+(ic_[0-9a-z]{{26}})(?:/|$)", re.IGNORECASE)
BLOCK = 4096  # bytes that any file takes
ODD = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_STEM = 64


@dataclass(frozen=True)
class SentFile:
    """A file that is to be listed."""

    id: str
    name: str
    bytes: int
    sha256: str
    num_particles: int
    dim: int

    @property
    def path(self) -> str:
        """Of it, relative to the data folder: an `ic_path`."""
        name = PurePosixPath(self.name)
        stem = ODD.sub("_", name.stem)[:LONGEST_STEM].lstrip("_") or "system"
        return f"{FOLDER}/{self.id}/{stem}{name.suffix.lower()}"


def sent_before(connection: Connection, owner_id: str, sha256: str, suffix: str) -> Row[Any] | None:
    """The same file of the same owner and kind."""
    same = initial_conditions.c.owner_id == owner_id, initial_conditions.c.sha256 == sha256
    query = select(initial_conditions).where(*same, initial_conditions.c.path.endswith(suffix))
    return connection.execute(query.limit(1)).first()


def add(
    connection: Connection, sent: SentFile, *, owner_id: str, most: int, now: float
) -> Row[Any]:
    """List a file that is durable; returns its row.

    Args:
        most: bytes of all of the owner's; 0 means no limit.

    Raises:
        LimitReached
    """
    _check_room(connection, owner_id, sent.bytes, most)
    connection.execute(
        insert(initial_conditions).values(
            id=sent.id,
            owner_id=owner_id,
            name=sent.name,
            path=sent.path,
            bytes=sent.bytes,
            sha256=sent.sha256,
            num_particles=sent.num_particles,
            dim=sent.dim,
            created_at=now,
        )
    )
    return find(connection, sent.id, None)


def find(connection: Connection, file_id: str, owner_id: str | None) -> Row[Any]:
    """A row that this owner may see.

    Raises:
        NotFound
    """
    query = select(initial_conditions).where(initial_conditions.c.id == file_id)
    return visible(connection.execute(query).first(), owner_id, f"file {file_id}")


def sent_file(connection: Connection, path: str) -> Row[Any] | None:
    """The row of a file by its path; None where it is none that a user sent."""
    match = SENT.search(path)
    query = select(initial_conditions).where(initial_conditions.c.id == (match and match[1]))
    return connection.execute(query.where(initial_conditions.c.path == path)).first()


def remove(connection: Connection, file_id: str, owner_id: str | None) -> str:
    """Take a row away; returns the folder that is to be deleted.

    Raises:
        NotFound
        Conflict: a job or a sweep that is not over begins with it.
    """
    row = find(connection, file_id, owner_id)
    named = or_(
        func.json_extract(jobs.c.config, "$.ic_path") == row.path,
        func.json_extract(jobs.c.simulate, "$.ic_path") == row.path,
    )
    going = select(jobs.c.id).where(jobs.c.status.not_in(TERMINAL), named)
    searching = select(sweeps.c.id).where(
        sweeps.c.status == SweepStatus.RUNNING,
        func.json_extract(sweeps.c.request, "$.config.ic_path") == row.path,
    )
    needed_by = connection.execute(union_all(going, searching).limit(1)).scalar()
    if needed_by is not None:
        kind = needed_by.partition("_")[0].capitalize()
        what = f"{kind} {needed_by} begins with it"
        raise Conflict(f"{what}: cancel it first, or wait until it is over.")
    connection.execute(delete(initial_conditions).where(initial_conditions.c.id == file_id))
    return f"{FOLDER}/{file_id}"


def check_may_use(
    connection: Connection, config: Mapping[str, Any], owner_id: str, pointer: str = "/config"
) -> None:
    """Refuse a config that names a file that is not there, or is another user's.

    Args:
        owner_id: of the job; an admin's may begin with anyone's.
        pointer: to the config in the request.

    Raises:
        InvalidRequest
    """
    ic_path = config.get("ic_path")
    if not isinstance(ic_path, str) or SENT.search(ic_path) is None:
        return
    row = sent_file(connection, ic_path)
    if row is None or not (row.owner_id == owner_id or _is_admin(connection, owner_id)):
        detail = "there is no such file of yours; `orrery files` lists them"
        raise InvalidRequest(FieldProblem(f"{pointer}/ic_path", detail))


def _check_room(connection: Connection, owner_id: str, more: int, most: int) -> None:
    """Refuse a file of an owner who has as much as one may.

    Args:
        more: its size [B].
        most: of all of the owner's [B]; 0 means no limit.

    Raises:
        LimitReached
    """
    if not most:
        return
    bytes_ = initial_conditions.c.bytes
    taken = func.coalesce(func.sum(func.max(bytes_, BLOCK)), 0)
    mine = select(taken).where(initial_conditions.c.owner_id == owner_id)
    has = connection.execute(mine).scalar_one()
    if has + max(more, BLOCK) > most:
        what = f"{most} bytes of initial conditions (ORRERY_MAX_INPUT_BYTES; you have {has})"
        raise LimitReached(f"{what}: delete some of them", STORED_RETRY_S)


def _is_admin(connection: Connection, owner_id: str) -> bool:
    if owner_id == LOCAL_ADMIN.token_id:
        return True
    role = connection.execute(select(tokens.c.role).where(tokens.c.id == owner_id)).scalar()
    return role == "admin"
