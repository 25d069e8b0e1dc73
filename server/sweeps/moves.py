"""One step of a sweep, as data: what was seen becomes what is to be written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from server.wire.states import TERMINAL, JobStatus
from server.wire.sweeps import SweepStatus, TrialState


@dataclass(frozen=True)
class Settled:
    """What became of a trial."""

    number: int
    state: TrialState
    value: float | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Move:
    """One step of a sweep: trials that are over, trials that begin, and whether it ends."""

    settled: Sequence[Settled] = ()
    remembered: Sequence[tuple[int, dict[str, Any]]] = ()  # attributes of trials that go on
    begun: Sequence[dict[str, Any]] = ()  # their params
    ends: SweepStatus | None = None
    failure: str | None = None

    @property
    def is_none(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.settled or self.remembered or self.begun or self.ends)


def is_over(row: Row[Any]) -> bool:
    """Whether the job of a trial has ended, or is gone."""
    return row.status is None or JobStatus(row.status) in TERMINAL
