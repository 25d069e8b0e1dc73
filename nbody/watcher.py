"""How a run tells its surroundings where it is, without doing any I/O itself."""

from enum import StrEnum
from typing import Protocol, runtime_checkable


class Phase(StrEnum):
    """What a running job is doing."""

    STARTING = "starting"
    COLLECT = "collect"
    GENERALIZE = "generalize"
    CHECKPOINT = "checkpoint"
    EVALUATE = "evaluate"
    SIMULATE = "simulate"


@runtime_checkable
class Watcher(Protocol):
    """Called from inside a run. Either method may raise to end the run there and then."""

    def phase(self, phase: Phase) -> None:
        """The run enters a phase."""
        ...

    def tick(self) -> None:
        """One iteration of a phase's loop is done: the run is alive."""
        ...


class NoWatcher:
    """For runs that nobody watches."""

    def phase(self, phase: Phase) -> None:
        """Nothing to tell."""

    def tick(self) -> None:
        """Nothing to tell."""
