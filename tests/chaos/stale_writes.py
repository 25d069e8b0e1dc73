"""A worker that lost its job goes on reporting: nothing of it is taken."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, text

from nbody.metrics import EpochMetrics
from server.access import tokens
from server.database.engines import driver_of
from server.database.migrate import migrate
from server.database.writer import Database
from server.errors import Conflict
from server.queue import claims, ending, reports, workers
from server.queue.submission import submit
from server.wire.jobs import JobSubmission
from server.wire.workers import Outcome, Report, WorkerRegistration
from tests.chaos.proof import Counted
from tests.server.conftest import epoch_metrics

EPOCHS = 1000
AT_ONCE = 200
Write = Callable[[Connection], object]


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Reports of epochs, files and logs, and outcomes, under leases that ended."""
    path = folder / "orrery.db"
    migrate(path)
    database = Database(path)
    database.open()
    token, leases = database.submit(_lose_some).result()
    before = database.read_now(_content)
    accepted = done = 0
    fence: AbstractContextManager[object] = nullcontext()
    if not protected:
        fence = patch.object(reports, "_held", _held_by_anyone)
    with fence:
        while done < rounds:
            writes = [_stale_write(random, random.choice(leases), token) for _ in range(AT_ONCE)]
            answers: list[Future[Any]] = [database.submit(write) for write in writes]
            accepted += sum(not isinstance(answer.exception(), Conflict) for answer in answers)
            done += AT_ONCE
    changed = database.read_now(_content) != before
    database.close()
    return Counted(done, max(accepted, int(changed)))


def _lose_some(connection: Connection) -> tuple[str, list[str]]:
    """Leases of jobs that others have by now, or nobody any more."""
    row, _ = tokens.create_token(connection, "stale", "worker", now=0.0)
    registration = WorkerRegistration(name="stale", host="here")
    worker_id = workers.register(connection, registration, token_id=row.id, now=0.0)
    submission = JobSubmission.model_validate({"config": {"epochs": EPOCHS}, "max_attempts": 2})
    leases: list[str] = []
    for number in range(20):
        submit(connection, submission, owner_id=row.id, now=0.0)
        for attempt in range(1 + number % 2):
            claimed = claims.claim(connection, worker_id, f"c{number}-{attempt}", now=0.0)
            assert claimed is not None
            leases.append(claimed[1].lease_id)
            ending.lose(connection, leases[-1], now=0.0)
        if number % 3 == 0:  # somebody else goes on with it
            claims.claim(connection, worker_id, f"next{number}", now=0.0)
    return row.id, leases


def _stale_write(random: Random, lease_id: str, token: str) -> Write:
    kind = random.randrange(4)
    if kind == 0:
        outcome = Outcome(status="failed", stop_reason="error", detail=str(random.random()))  # pyright: ignore[reportArgumentType]
        return lambda connection: ending.finish(connection, lease_id, outcome, now=0.0)
    fields: dict[str, Any] = {}
    if kind == 1:
        first = random.randrange(EPOCHS - 10)
        numbers = range(first, first + random.randrange(1, 10))
        fields["epochs"] = [EpochMetrics.model_validate(epoch_metrics(n)) for n in numbers]
    elif kind == 2:
        fields["first_epoch"] = random.randrange(EPOCHS)
    report = Report.model_validate(fields | ({"phase": "collect"} if kind == 3 else {}))
    return lambda connection: reports.record(connection, lease_id, token, report, now=0.0)


def _held_by_anyone(connection: Connection, lease_id: str, token_id: str) -> reports.Held:
    """The control: whoever once had the lease may write."""
    del token_id
    return reports.Held(*driver_of(connection).execute(reports.HELD, (lease_id,)).fetchone())


def _content(connection: Connection) -> list[Any]:
    tables = ("jobs", "attempts", "epochs", "checkpoints", "events", "log_chunks")
    return [connection.execute(text(f"SELECT * FROM {name}")).all() for name in tables]
