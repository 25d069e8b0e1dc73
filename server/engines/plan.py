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

    Those that run are never ended: each ends by itself when it finds no work. One that waits, but
    is known to the server, runs.
    """
    counted = [pilot for pilot in pilots if pilot.state in {"waits", "runs"}]
    there = {pilot.name for pilot in counted}
    known = {worker.name for worker in demand.workers}
    held = sum(worker.jobs for worker in demand.workers if worker.name in there)
    needed = -(-(demand.waiting + held) // bounds.slots)
    wanted = min(max(needed, bounds.least), bounds.most)
    # What ends may come again: it has its place until it is gone.
    room = bounds.most - sum(pilot.state != "held" for pilot in pilots)
    missing = max(min(wanted - len(counted), room), 0)
    kept = sum(pilot.is_kept for pilot in counted)
    start_kept = min(max(bounds.least - kept, 0), missing)
    surplus = len(counted) - wanted
    # The last ones that wait first; those that are to stay only where there are too many of them.
    waiting = [pilot for pilot in counted if pilot.state == "waits" and pilot.name not in known]
    spare = [pilot for pilot in waiting if not pilot.is_kept]
    spare = [each for each in waiting if each.is_kept][: max(kept - bounds.least, 0)] + spare
    stop = spare[max(len(spare) - surplus, 0) :] if surplus > 0 else []
    held_back = [pilot for pilot in pilots if pilot.state == "held"]
    return Plan(wanted, start_kept, missing - start_kept, stop + held_back)
