"""Many workers ask for the same job at once: one gets it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, delete, select, update

from server.access import tokens
from server.database.ids import new_id
from server.database.migrate import migrate
from server.database.tables import jobs
from server.database.writer import Database
from server.queue import claims, workers
from server.queue.submission import submit
from server.wire.jobs import JobSubmission
from server.wire.states import JobStatus
from server.wire.workers import WorkerRegistration
from tests.chaos.proof import Counted

RACERS = 16
Taker = Callable[[Database, str], str | None]


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is one worker's try at a job that fifteen others want, too."""
    path = folder / "orrery.db"
    migrate(path)
    database = Database(path)
    database.open()
    submission = JobSubmission.model_validate({"config": {"epochs": 1}})
    token, racers = database.submit(_register).result()
    take: Taker = _take if protected else _take_unguarded
    broken = tried = 0
    with ThreadPoolExecutor(RACERS) as pool:
        while tried < rounds:
            number = random.randrange(1, 4)
            made = [
                database.submit(lambda c: submit(c, submission, owner_id=token, now=0.0))
                for _ in range(number)
            ]
            asked = [job.result() for job in made]
            answers = pool.map(lambda racer: take(database, racer), racers * 2)
            won = [answer for answer in answers if answer is not None]
            tried += 2 * RACERS
            broken += len(won) != len(set(won)) or not set(won) <= set(asked)
            database.submit(lambda c: c.execute(delete(jobs))).result()
    database.close()
    return Counted(tried, broken)


def _register(connection: Connection) -> tuple[str, list[str]]:
    view, _ = tokens.create_token(connection, "racers", "worker", now=0.0)
    names = (WorkerRegistration(name=f"racer-{n}", host="here") for n in range(RACERS))
    token = view if isinstance(view, str) else view.id
    return token, [workers.register(connection, name, token_id=token, now=0.0) for name in names]


def _take(database: Database, worker_id: str) -> str | None:
    answer: Future[Any] = database.submit(
        lambda connection: claims.claim(connection, worker_id, new_id("claim"), now=0.0)
    )
    claimed = answer.result()
    return None if claimed is None else claimed[0].id


def _take_unguarded(database: Database, worker_id: str) -> str | None:
    """The control: look first, and take what was seen, whatever has become of it."""
    del worker_id
    waiting = select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED).limit(1)
    found = database.read_now(lambda connection: connection.execute(waiting).scalar())
    if found is not None:
        taken = update(jobs).where(jobs.c.id == found).values(status=JobStatus.RUNNING)
        database.submit(lambda connection: connection.execute(taken)).result()
    return found
