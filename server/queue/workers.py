"""Workers: registered, drained, recognised by the token that they registered with, and given what
they can hold.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from server.database.ids import new_id
from server.database.tables import attempts, workers
from server.errors import LeaseLost, NotFound
from server.wire.jobs import label_texts
from server.wire.workers import FileWays, WorkerRegistration

ROOM = 1.25  # estimates of a job's memory are that near, measured
NO_BOUND = 2**60
REMEMBERED_S = 86400.0  # a worker that is not heard of, and that no attempt names


def register(
    connection: Connection,
    registration: WorkerRegistration,
    *,
    token_id: str,
    now: float,
    refusal: str | None = None,
    files: FileWays = "shared",
) -> str:
    """Note a worker; returns its id.

    Args:
        files: how they travel between it and the server.
        refusal: why it gets no jobs; of those that come again and again only the last is kept.
    """
    if refusal is not None:
        connection.execute(
            delete(workers).where(
                workers.c.token_id == token_id,
                workers.c.name == registration.name,
                workers.c.host == registration.host,
                workers.c.refusal.is_not(None),
            )
        )
    worker_id = new_id("worker")
    connection.execute(
        insert(workers).values(
            id=worker_id,
            token_id=token_id,
            registered_at=now,
            last_seen_at=now,
            refusal=refusal,
            files=files,
            **registration.model_dump(exclude={"protocol", "folder", "proof"}),
        )
    )
    return worker_id


def find_own(connection: Connection, worker_id: str, token_id: str) -> Row[Any]:
    """The row of a worker that registered with a token.

    Raises:
        NotFound
    """
    known = connection.execute(select(workers).where(workers.c.id == worker_id)).first()
    if known is None or known.token_id != token_id or known.refusal is not None:
        raise NotFound(f"worker {worker_id} of this token")
    return known


def drain(connection: Connection, worker_id: str, *, draining: bool) -> None:
    """Give a worker no more jobs, or jobs again.

    Raises:
        NotFound
    """
    changed = update(workers).where(workers.c.id == worker_id).values(draining=draining)
    if not connection.execute(changed).rowcount:
        raise NotFound(f"worker {worker_id}")


def leave(connection: Connection, worker_id: str, *, now: float) -> None:
    """Note that a worker takes no more jobs, by its own word."""
    left = update(workers).where(workers.c.id == worker_id).values(left_at=now, last_seen_at=now)
    connection.execute(left)


def job_held_by(connection: Connection, lease_id: str, token_id: str) -> str:
    """The job that a lease was given for, to a worker that registered with a token.

    Raises:
        LeaseLost: there is no such lease, or it is another's.
    """
    row = connection.execute(
        select(attempts.c.job_id, workers.c.token_id)
        .join(workers, attempts.c.worker_id == workers.c.id)
        .where(attempts.c.lease_id == lease_id)
    ).first()
    if row is None or row.token_id != token_id:
        raise LeaseLost
    return row.job_id


@dataclass(frozen=True)
class Capacity:
    """What a worker can take.

    Attributes:
        kinds: of jobs.
        memory: by a job's device, the bytes that its estimate must be below.
        seconds: that an epoch of a job may take, as far as is known.
        gpu_bytes: of a GPU that jobs may ask for; 0 without one.
        labels: that jobs may ask for, each as one text.
    """

    kinds: tuple[str, ...]
    memory: dict[str, float]
    seconds: float = NO_BOUND
    gpu_bytes: float = NO_BOUND
    labels: tuple[str, ...] = ()

    @property
    def pool(self) -> str:
        """The name of those that can take the same jobs, but for a factor of two in memory."""
        powers = (f"{device}:{int(room).bit_length()}" for device, room in self.memory.items())
        return " ".join((*sorted(self.kinds), *powers, *self.labels))

    @property
    def sort(self) -> Hashable:
        """What workers have in common that find the same jobs, given time enough."""
        return self.kinds, tuple(sorted(self.memory.items())), self.gpu_bytes, self.labels


ANYTHING = Capacity(("train",), dict.fromkeys(("cpu", "cuda", "auto"), NO_BOUND))


def capacity_of(worker: Row[Any], kinds: Iterable[str], seconds: float | None = None) -> Capacity:
    """What a worker can take, as far as its memory is known.

    Args:
        seconds: that it has; None: as many as it likes.
    """
    memory = memory_of(worker)
    return Capacity(
        tuple(kinds),
        {device: ROOM * each for device, each in memory.items()},
        NO_BOUND if seconds is None else seconds,
        gpu_bytes_of(worker),
        tuple(label_texts(worker.labels)),
    )


def memory_of(worker: Row[Any]) -> dict[str, int]:
    """Bytes that jobs of each device may use there: those of the host, or a slot's share of its
    smallest GPU."""
    gpus = [gpu["memory_bytes"] or NO_BOUND for gpu in worker.gpus]
    of_one = -(-worker.slots // max(len(gpus), 1))
    on_gpu, on_host = min(gpus, default=0) // of_one, worker.memory_bytes or NO_BOUND
    return {"cpu": on_host, "cuda": on_gpu, "auto": on_gpu or on_host}


def gpu_bytes_of(worker: Row[Any]) -> int:
    """Memory of a GPU that jobs may ask for; 1 where there is a GPU, and it does not say."""
    memory = memory_of(worker)["cuda"]
    return memory if all(gpu["memory_bytes"] for gpu in worker.gpus) else min(memory, 1)


def note_trouble(connection: Connection, worker_id: str, trouble: str | None) -> None:
    """Why a worker takes no jobs at the moment; None: it does."""
    changed = update(workers).where(workers.c.id == worker_id).values(trouble=trouble)
    connection.execute(changed)


def note_seen(connection: Connection, last_seen: dict[str, float], *, now: float) -> None:
    """Write down when workers were heard of; forget those that are long gone."""
    if last_seen:
        connection.execute(
            update(workers)
            .where(workers.c.id == bindparam("of"))
            .values(last_seen_at=bindparam("at")),
            [{"of": worker_id, "at": at} for worker_id, at in last_seen.items()],
        )
    seen_at = func.coalesce(workers.c.last_seen_at, workers.c.registered_at)
    named = select(attempts.c.id).where(attempts.c.worker_id == workers.c.id).exists()
    connection.execute(delete(workers).where(seen_at < now - REMEMBERED_S, ~named))
