"""How a run tells its surroundings where it is, without doing any I/O itself."""

from typing import Literal, Protocol, runtime_checkable

Phase = Literal["starting", "collect", "generalize", "checkpoint", "evaluate", "simulate"]


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
