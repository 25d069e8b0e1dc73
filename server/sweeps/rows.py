"""Sweeps in the database: made, moved on by one step, cancelled, deleted.

Every function takes a connection inside a transaction. Nothing here knows of HTTP, nor of Optuna.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from nbody.config import Config
from server.database.ids import new_id
from server.database.tables import jobs, sweeps, trials
from server.errors import Conflict, FieldProblem, InvalidRequest, LimitReached
from server.queue import job_actions
from server.queue.files.initial_conditions import check_may_use
from server.queue.limits import NO_LIMITS, Limits, check_limits
from server.queue.ownership import visible
from server.queue.submission import submit
from server.sweeps.moves import Move
from server.wire.jobs import JobSubmission
from server.wire.states import TERMINAL, JobStatus
from server.wire.sweeps import Choices, Dimension, SweepRequest, SweepStatus, TrialState

MOST_RUNNING, RETRY_S = 20, 60  # sweeps of one owner; when to look again
MOST_TRIED = 100  # other values, to see whether a choice fits any of them


def create(
    connection: Connection,
    request: SweepRequest,
    *,
    owner_id: str,
    now: float,
    limits: Limits = NO_LIMITS,
) -> str:
    """Begin a sweep, whose space was checked; returns its id.

    Raises:
        LimitReached
    """
    check_limits(connection, owner_id, limits)
    check_may_use(connection, request.config, owner_id)
    mine = sweeps.c.owner_id == owner_id, sweeps.c.status == SweepStatus.RUNNING
    going = connection.execute(select(func.count()).select_from(sweeps).where(*mine)).scalar_one()
    if going >= MOST_RUNNING:
        raise LimitReached(f"{MOST_RUNNING} running sweeps", RETRY_S)
    sweep_id = new_id("sweep")
    connection.execute(
        insert(sweeps).values(
            id=sweep_id,
            version=1,
            name=request.name,
            status=SweepStatus.RUNNING,
            owner_id=owner_id,
            request=request.model_dump(mode="json"),
            created_at=now,
        )
    )
    return sweep_id


def find(connection: Connection, sweep_id: str, owner_id: str | None) -> Row[Any]:
    """A sweep's row.

    Raises:
        NotFound
    """
    row = connection.execute(select(sweeps).where(sweeps.c.id == sweep_id)).first()
    return visible(row, owner_id, f"sweep {sweep_id}")


def running(connection: Connection) -> dict[str, list[str]]:
    """The sweeps that go on, by owner."""
    query = select(sweeps.c.owner_id, sweeps.c.id).where(sweeps.c.status == SweepStatus.RUNNING)
    found: dict[str, list[str]] = {}
    for owner_id, sweep_id in connection.execute(query):
        found.setdefault(owner_id, []).append(sweep_id)
    return found


def apply(
    connection: Connection,
    sweep_id: str,
    version: int,
    move: Move,
    *,
    now: float,
    limits: Limits = NO_LIMITS,
) -> list[str]:
    """Write one step of a sweep, if it is still as it was seen; returns the jobs that changed.

    Trials beyond the limits of its owner begin later.
    """
    unchanged = sweeps.c.version == version, sweeps.c.status == SweepStatus.RUNNING
    row = connection.execute(select(sweeps).where(sweeps.c.id == sweep_id, *unchanged)).first()
    if row is None:
        return []
    touched: list[str] = []
    for number, attributes in move.remembered:
        connection.execute(_trial(sweep_id, number).values(attributes=attributes))
    for trial in move.settled:
        values = {"state": trial.state, "value": trial.value, "attributes": trial.attributes}
        job_id = connection.execute(
            _trial(sweep_id, trial.number)
            .where(trials.c.state == TrialState.RUNNING)
            .values(values)
            .returning(trials.c.job_id)
        ).scalar_one_or_none()
        if trial.state is TrialState.PRUNED and job_id is not None:
            touched += _cancel_jobs(connection, [job_id], now=now)
    request = SweepRequest.model_validate(row.request)
    number = connection.execute(
        select(func.count()).where(trials.c.sweep_id == sweep_id)
    ).scalar_one()
    for params in move.begun:
        try:
            check_limits(connection, row.owner_id, limits)
        except LimitReached:
            break
        touched += _begin(connection, row, request, number, params, now=now)
        number += 1
    if move.ends is not None:
        touched += _end(connection, sweep_id, move.ends, move.failure, now=now)
    else:
        _touch(connection, sweep_id)
    return touched


def cancel(connection: Connection, row: Row[Any], *, now: float) -> list[str]:
    """End a sweep and cancel its jobs; returns these. Can be repeated.

    Raises:
        Conflict: it is over in another way.
    """
    if row.status == SweepStatus.CANCELLED:
        return []
    if row.status != SweepStatus.RUNNING:
        raise Conflict(f"Sweep {row.id} is {row.status}: it cannot be cancelled.")
    return _end(connection, row.id, SweepStatus.CANCELLED, None, now=now)


def remove(connection: Connection, row: Row[Any]) -> None:
    """Delete a sweep that is over; its jobs stay.

    Raises:
        Conflict: it is not over.
    """
    if row.status == SweepStatus.RUNNING:
        raise Conflict(f"Sweep {row.id} is running: cancel it first.")
    connection.execute(delete(sweeps).where(sweeps.c.id == row.id))


def check_space(request: SweepRequest) -> None:
    """Every end of every range, and every choice, must make a valid config with some of the others.

    What two fields make impossible together fails as that trial, and the others run.

    Raises:
        InvalidRequest
    """
    first = {name: _ends(dimension)[0] for name, dimension in request.space.items()}
    for name, dimension in request.space.items():
        for value in _ends(dimension):
            try:
                _config(request, first | {name: value})
            except ValidationError as error:
                if _fits_others(request, first | {name: value}, but=name):
                    continue
                line = error.errors()[0]
                place = str(line["loc"][0]) if line["loc"] else name
                pointer = f"/space/{place}" if place in request.space else f"/config/{place}"
                detail = line["msg"].removeprefix("Value error, ")
                raise InvalidRequest(
                    FieldProblem(pointer, f"{detail} (a trial of the sweep)")
                ) from None


def _fits_others(request: SweepRequest, params: dict[str, Any], *, but: str) -> bool:
    """Whether the params are valid with another value of one of the other fields."""
    others = (
        params | {name: value}
        for name, dimension in request.space.items()
        if name != but
        for value in _ends(dimension)
    )
    for changed in islice(others, MOST_TRIED):
        with suppress(ValidationError):
            _config(request, changed)
            return True
    return False


def _ends(dimension: Dimension) -> Sequence[Any]:
    if isinstance(dimension, Choices):
        return dimension.values
    return (dimension.low, dimension.high)


def _config(request: SweepRequest, params: dict[str, Any]) -> Config:
    config = Config.model_validate({**request.config, **params})
    config.check_arithmetic()
    return config


def _begin(
    connection: Connection,
    row: Row[Any],
    request: SweepRequest,
    number: int,
    params: dict[str, Any],
    *,
    now: float,
) -> list[str]:
    """A trial and its job; a trial that is no valid config has failed before it began."""
    trial = {"sweep_id": row.id, "number": number, "params": params, "attributes": {}}
    try:
        submission = JobSubmission.model_validate(
            {
                "name": f"{request.name or 'sweep'}-{number}"[:200],
                "config": {**request.config, **params},
                "priority": request.priority,
                "max_runtime_s": request.max_runtime_s,
                "requires": request.requires,
                "metadata": {**request.metadata, "sweep": row.id, "trial": str(number)},
            }
        )
        job_id = submit(connection, submission, owner_id=row.owner_id, now=now, parent=row.id)
    except (ValidationError, InvalidRequest):
        connection.execute(insert(trials).values(**trial, state=TrialState.FAILED))
        return []
    connection.execute(insert(trials).values(**trial, job_id=job_id, state=TrialState.RUNNING))
    return [job_id]


def _cancel_jobs(connection: Connection, job_ids: Sequence[str], *, now: float) -> list[str]:
    found = connection.execute(select(jobs).where(jobs.c.id.in_(job_ids))).all()
    going = [job for job in found if JobStatus(job.status) not in TERMINAL]
    for job in going:
        job_actions.cancel(connection, job, 0.0, now=now)
    return [job.id for job in going]


def _trial(sweep_id: str, number: int) -> Any:
    return update(trials).where(trials.c.sweep_id == sweep_id, trials.c.number == number)


def _touch(connection: Connection, sweep_id: str, **values: Any) -> None:
    connection.execute(
        update(sweeps).where(sweeps.c.id == sweep_id).values(version=sweeps.c.version + 1, **values)
    )


def _end(
    connection: Connection, sweep_id: str, status: SweepStatus, failure: str | None, *, now: float
) -> list[str]:
    """End a sweep, and with it the trials that go on; returns their jobs, which are cancelled."""
    under_way = trials.c.sweep_id == sweep_id, trials.c.state == TrialState.RUNNING
    job_ids = list(connection.execute(select(trials.c.job_id).where(*under_way)).scalars())
    connection.execute(update(trials).where(*under_way).values(state=TrialState.FAILED))
    _touch(connection, sweep_id, status=status, failure=failure, finished_at=now)
    return _cancel_jobs(connection, job_ids, now=now)
