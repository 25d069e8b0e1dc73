"""Many workers ask for the same job at once: one gets it."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random

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
Answer = Future[str | None]
Taker = Callable[[Database, str, str], Answer]


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is one worker's try at a job that fifteen others want, too; some ask twice.

    They ask as the server's event loop asks for them: all at once, and then they wait.
    """
    path = folder / "orrery.db"
    migrate(path)
    database = Database(path)
    database.open()
    submission = JobSubmission.model_validate({"config": {"epochs": 1}})
    token, racers = database.submit(_register).result()
    take: Taker = _take if protected else _take_unguarded
    broken = tried = 0
    while tried < rounds:
        made = [
            database.submit(lambda c: submit(c, submission, owner_id=token, now=0.0))
            for _ in range(random.randrange(1, 4))
        ]
        asked = {job.result() for job in made}
        claims_made = [(racer, new_id("claim")) for racer in racers]
        claims_made += random.sample(claims_made, RACERS // 4)  # their answer was lost
        random.shuffle(claims_made)
        answers = [(who, take(database, *who)) for who in claims_made]
        won = {(who, job) for who, answer in answers if (job := answer.result()) is not None}
        tried += len(answers)
        broken += len(won) != len({job for _, job in won}) or {job for _, job in won} != asked
        database.submit(lambda c: c.execute(delete(jobs))).result()
    database.close()
    return Counted(tried, broken)


def _register(connection: Connection) -> tuple[str, list[str]]:
    view, _ = tokens.create_token(connection, "racers", "worker", now=0.0)
    names = (WorkerRegistration(name=f"racer-{n}", host="here") for n in range(RACERS))
    token = view if isinstance(view, str) else view.id
    return token, [workers.register(connection, name, token_id=token, now=0.0) for name in names]


def _take(database: Database, worker_id: str, claim_id: str) -> Answer:
    def take(connection: Connection) -> str | None:
        claimed = claims.claim(connection, worker_id, claim_id, now=0.0)
        return None if claimed is None else claimed[0].id

    return database.submit(take)


def _take_unguarded(database: Database, worker_id: str, claim_id: str) -> Answer:
    """The control: look first, and take what was seen, whatever has become of it."""
    del worker_id, claim_id
    waiting = select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED).limit(1)
    found = database.read_now(lambda connection: connection.execute(waiting).scalar())
    taken = update(jobs).where(jobs.c.id == found).values(status=JobStatus.RUNNING)

    def take(connection: Connection) -> str | None:
        connection.execute(taken)
        return found

    return database.submit(take)
