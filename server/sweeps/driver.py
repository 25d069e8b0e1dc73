"""What moves sweeps on: looks at their trials, asks for the next ones, ends those that are worse.

One task of the server. It reads, thinks in a thread, and writes one move in one transaction; what
was written is all that it remembers. Then the sweeps of that owner rest: what a move takes of the
interpreter, nobody else has.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from server.database.tables import COLUMN_OF, epochs, jobs, trials
from server.database.trouble import failures_told
from server.database.writer import Database
from server.errors import NotFound
from server.queue.changes import Changes
from server.queue.limits import Limits
from server.sweeps import rows as sweep_rows
from server.sweeps.moves import Move, is_over
from server.wire.sweeps import SCORES, SweepRequest, TrialState

LOOK_INTERVAL_S = 2.0  # at running trials, for those to end early
RESTS = 9  # times as long as a move took, before the next one of the same owner's
MOST_POINTS = 100  # of a trial's series that pruners see
OF_JOBS = ("status", "failure", "result", "epochs_done", "epochs_total")

logger = logging.getLogger(__name__)


class SweepDriver:
    """Moves every running sweep, whenever a job ended and every other second."""

    def __init__(self, database: Database, changes: Changes, limits: Limits) -> None:
        self._database, self._changes, self._limits = database, changes, limits
        self._moving: dict[str, asyncio.Task[None]] = {}  # by owner: none waits for another's

    async def run(self) -> None:
        """Until cancelled."""
        with self._changes.subscribe(Changes.QUEUE) as subscription:
            while True:
                await self._begin_moves()
                await subscription.wait(LOOK_INTERVAL_S)

    async def _begin_moves(self) -> None:
        going: dict[str, list[str]] = {}
        with failures_told(logger, "sweeps could not be read; trying again"):
            going = await self._database.read(sweep_rows.running)
        for owner_id in going.keys() - self._moving.keys():
            task = asyncio.create_task(self._move_each(going[owner_id]), name=f"sweeps {owner_id}")
            self._moving[owner_id] = task
            task.add_done_callback(lambda _, done=owner_id: self._moving.pop(done, None))

    async def _move_each(self, sweep_ids: Sequence[str]) -> None:
        for sweep_id in sweep_ids:
            what = f"sweep {sweep_id} could not be moved on; trying again"
            gone = contextlib.suppress(NotFound)  # it was deleted meanwhile
            began = time.monotonic()
            has_moved = True  # or failed to
            with failures_told(logger, what), gone:
                has_moved = await self.move(sweep_id)
            if has_moved:
                await asyncio.sleep(min(LOOK_INTERVAL_S, RESTS * (time.monotonic() - began)))

    async def move(self, sweep_id: str) -> bool:
        """One step of a sweep; whether there was one to make."""
        version, *seen = await self._database.read(lambda connection: _look(connection, sweep_id))
        move = await asyncio.to_thread(_think, *seen)
        if move.is_none:
            return False
        touched = await self._database.write(
            lambda connection: sweep_rows.apply(
                connection,
                sweep_id,
                version,
                move,
                now=time.time(),
                limits=self._limits,
            )
        )
        for topic in (sweep_id, *touched, *([Changes.QUEUE] if touched else [])):
            self._changes.notify(topic)
        return True


def _look(
    connection: Connection, sweep_id: str
) -> tuple[int, SweepRequest, Sequence[Row[Any]], dict[str, dict[int, float]]]:
    """Version and request, the trials with their jobs, and the series that a pruner looks at."""
    sweep = sweep_rows.find(connection, sweep_id, None)
    request = SweepRequest.model_validate(sweep.request)
    rows = connection.execute(
        select(trials, *(jobs.c[name] for name in OF_JOBS))
        .outerjoin(jobs, jobs.c.id == trials.c.job_id)
        .where(trials.c.sweep_id == sweep_id)
        .order_by(trials.c.number)
    ).all()
    series: dict[str, dict[int, float]] = {}
    if request.objective not in SCORES:
        column = epochs.c[COLUMN_OF[request.objective]]
        for row in rows:
            wanted = request.pruner != "none" or (row.state == TrialState.RUNNING and is_over(row))
            if row.status is not None and wanted:
                series[row.job_id] = _series(connection, row, column)
    return sweep.version, request, rows, series


def _series(connection: Connection, row: Row[Any], column: Any) -> dict[int, float]:
    """The objective at epochs that all trials have in common, and at the last one of a job."""
    chosen = epochs.c.epoch % max(1, row.epochs_total // MOST_POINTS) == 0
    if is_over(row):
        chosen = chosen | (epochs.c.epoch == row.epochs_done - 1)
    query = select(epochs.c.epoch, column).where(epochs.c.job_id == row.job_id, chosen)
    return {epoch: float(value) for epoch, value in connection.execute(query) if value is not None}


def _think(*seen: Any) -> Move:
    from server.sweeps.decisions import next_move  # noqa: PLC0415 - Optuna is loaded once there is a sweep

    return next_move(*seen)
