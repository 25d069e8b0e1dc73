"""In which order jobs will be taken, if workers can take anything: a forecast of `fair_turns`.

The jobs of an owner and priority are a line. Lines are counted, not sorted: where number `n` of one
stands among all others follows from the counts.
"""

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, or_, select

from server.database.tables import jobs, turns
from server.queue.fair_turns import HAD_TURN, IN_RANK, OWN_ORDER, OWNER, RANK, WAITS
from server.queue.job_rows import JobRow
from server.wire.states import JobStatus

IN_LINE = *IN_RANK, jobs.c.owner_id == OWNER
IN_FRONT = select(func.count()).where(WAITS, jobs.c.queue_rank < RANK)
STANDS_AT = jobs.c.queue_turn == bindparam("turn")
EARLIER = or_(jobs.c.queue_turn < bindparam("turn"), STANDS_AT & (jobs.c.id < bindparam("id")))
NUMBER = select(func.count()).where(*IN_LINE, EARLIER)
STRETCH = (
    select(jobs.c.id)
    .where(*IN_LINE)
    .order_by(*OWN_ORDER)
    .limit(bindparam("many"))
    .offset(bindparam("begins"))
)

Place = tuple[int, int, str, int]  # lap, when the owner was served last, its first job, number


@dataclass(frozen=True)
class Line:
    """The waiting jobs of one owner in one priority.

    Attributes:
        waiting: how many there are.
        had: how many of them had their turn and lost their worker; they stand in front.
        lost, first: the first of those, and of the others.
        turn: when the owner was served last, in whichever pool.
    """

    owner_id: str
    waiting: int
    had: int
    lost: str
    first: str
    turn: int

    def place(self, number: int) -> Place:
        """What job `number`, from 0, is sorted by."""
        lap = max(number - self.had + 1, 0)
        return lap, self.turn, self.first if lap else self.lost, number

    def before(self, place: Place) -> int:
        """How many jobs of the line come before a place."""
        return bisect_left(range(self.waiting), place, key=self.place)

    def after(self, begins: int) -> Iterator[tuple[Place, str, int]]:
        """The places from a number on, with owner and number."""
        for number in range(begins, self.waiting):
            yield self.place(number), self.owner_id, number


def position(connection: Connection, job: JobRow) -> int:
    """How many waiting jobs come before one that waits."""
    lines = _lines_of(connection, job.queue_rank)
    place = _place(connection, job, lines)
    in_front = connection.execute(IN_FRONT, {"rank": job.queue_rank}).scalar_one()
    return in_front + sum(line.before(place) for line in lines)


def part(
    connection: Connection, limit: int, after: JobRow | None, owner_id: str | None
) -> list[str]:
    """The next jobs in order, of one owner or of all; those after one that waits or did."""
    ids: list[str] = []
    ranks = select(jobs.c.queue_rank).where(WAITS).distinct().order_by(jobs.c.queue_rank)
    if after is not None:
        ranks = ranks.where(jobs.c.queue_rank >= after.queue_rank)
    for rank in connection.execute(ranks).scalars():
        lines = [line for line in _lines_of(connection, rank) if owner_id in {None, line.owner_id}]
        begins = dict.fromkeys((line.owner_id for line in lines), 0)
        if after is not None and rank == after.queue_rank:
            place = _place(connection, after, lines)
            begins = {line.owner_id: line.before(place) for line in lines}
            if after.status == JobStatus.QUEUED:
                begins[after.owner_id] += 1
        order = heapq.merge(*(line.after(begins[line.owner_id]) for line in lines))
        ids += _jobs_at(connection, rank, [at[1:] for at in islice(order, limit - len(ids))])
        if len(ids) == limit:
            break
    return ids


def _place(connection: Connection, job: JobRow, lines: list[Line]) -> Place:
    """Where a job stands, or stood, among those of its priority."""
    earlier = {"rank": job.queue_rank, "owner_id": job.owner_id}
    earlier |= {"turn": job.queue_turn, "id": job.id}
    number = connection.execute(NUMBER, earlier).scalar_one()
    gone = Line(job.owner_id, 0, int(job.queue_turn == HAD_TURN), job.id, job.id, 0)
    own = next((line for line in lines if line.owner_id == job.owner_id), gone)
    waits = job.status == JobStatus.QUEUED
    return own.place(number if waits else number - 1)  # what was not listed yet may be a lap nearer


def _lines_of(connection: Connection, rank: int) -> list[Line]:
    """Every owner's line of one priority."""
    return [Line(*row) for row in connection.execute(LINES, {"rank": rank})]


def _jobs_at(connection: Connection, rank: int, order: list[tuple[str, int]]) -> list[str]:
    """The jobs of owners' numbers, which are consecutive for each owner."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for owner_id, number in order:
        numbers[owner_id].append(number)
    found: dict[tuple[str, int], str] = {}
    for owner_id, of_owner in numbers.items():
        asked = {"rank": rank, "owner_id": owner_id, "many": len(of_owner), "begins": of_owner[0]}
        ids = connection.execute(STRETCH, asked).scalars()
        found |= {(owner_id, number): job for number, job in zip(of_owner, ids, strict=True)}
    return [found[at] for at in order]


def _lines() -> Select[Any]:
    lost = func.sum(jobs.c.queue_turn == HAD_TURN)
    counted = (
        select(jobs.c.owner_id, func.count().label("waiting"), lost.label("had"))
        .where(*IN_RANK)
        .group_by(jobs.c.owner_id)
        .subquery()
    )
    own = select(jobs.c.id).where(*IN_RANK, jobs.c.owner_id == counted.c.owner_id)
    own = own.order_by(*OWN_ORDER).limit(1)
    first = own.where(jobs.c.queue_turn > HAD_TURN).scalar_subquery()
    served = turns.c.queue_rank == RANK, turns.c.owner_id == counted.c.owner_id
    turn = select(func.max(turns.c.turn)).where(*served).scalar_subquery()
    return select(
        *counted.c,
        func.coalesce(own.scalar_subquery(), ""),
        func.coalesce(first, ""),
        func.coalesce(turn, 0),
    )


LINES = _lines()
