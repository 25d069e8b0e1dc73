"""How many workers there are to be: from what waits, and what they do, to what is to change."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.engines.engine import Pilot
from server.wire.demand import Demand


@dataclass(frozen=True)
class Bounds:
    """How many workers there may be, and how many jobs each takes at a time."""

    least: int
    most: int
    slots: int = 1


@dataclass(frozen=True)
class Plan:
    """What is to change.

    Attributes:
        wanted: workers there are to be.
        start_kept, start: workers to ask for.
        stop: those to take back, which have not begun.
    """

    wanted: int
    start_kept: int = 0
    start: int = 0
    stop: list[Pilot] = field(default_factory=list[Pilot])


def plan(pilots: Sequence[Pilot], demand: Demand, bounds: Bounds) -> Plan:
    """One worker for so many jobs as it takes at a time, of those that wait and that they hold.

    Those that run are never ended: each ends by itself when it finds no work.
    """
    there = {pilot.name for pilot in pilots}
    held = sum(worker.jobs for worker in demand.workers if worker.name in there)
    needed = -(-(demand.waiting + held) // bounds.slots)
    wanted = min(max(needed, bounds.least), bounds.most)
    missing = max(wanted - len(pilots), 0)
    kept = sum(pilot.is_kept for pilot in pilots)
    start_kept = min(max(bounds.least - kept, 0), missing)
    waiting = [pilot for pilot in pilots if not pilot.runs and not pilot.is_kept]
    surplus = max(len(pilots) - wanted, 0)
    stop = waiting[len(waiting) - min(surplus, len(waiting)) :]
    return Plan(wanted, start_kept, missing - start_kept, stop)
