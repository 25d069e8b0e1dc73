"""What starts and ends workers: a batch system, a cluster, this machine.

An engine keeps nothing: what it has started it finds again by asking, so whoever uses it may be
killed at any time, and lose none.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

OWN_TOKENS = frozenset(("ORRERY_TOKEN", "ORRERY_TOKEN_FILE"))
POOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")
PilotState = Literal["waits", "runs", "ends", "held"]
KEPT = ".kept"  # at the end of a pool's name in those of pilots that stay when there is no work


class EngineUnavailable(Exception):
    """An engine does not answer, or refuses: what it runs is not known, or not changed."""


@dataclass(frozen=True)
class Pilot:
    """A worker that an engine was asked for.

    Attributes:
        id: the engine's own.
        name: of the worker.
        state: what the engine says of it; `ends`: it may yet come again, or not; `held`: it waits,
            and will not begin by itself.
        why: what it waits for, in the engine's words.
    """

    id: str
    name: str
    state: PilotState
    why: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it stays when there is no work."""
        return self.name.rpartition("-")[0].endswith(KEPT)


@dataclass(frozen=True)
class PilotTerms:
    """What each worker of a pool is started with.

    Attributes:
        pool: begin of the workers' names.
        options: of `python -m worker`; the engine adds its name, folder and token.
        idle_exit_s: without a job, after which one ends; of those that are kept, after longer.
    """

    pool: str
    options: tuple[str, ...]
    idle_exit_s: float
    kept_idle_exit_s: float

    def base(self, *, kept: bool) -> str:
        """A worker's name up to its last '-'."""
        return f"{self.pool}{KEPT if kept else ''}"

    def command(self, *, kept: bool) -> list[str]:
        """The words for Python that start a worker, but for what the engine adds."""
        idle_s = self.kept_idle_exit_s if kept else self.idle_exit_s
        return ["-P", "-m", "worker", *self.options, "--idle-exit", f"{idle_s:g}"]


def without_tokens() -> dict[str, str]:
    """This process's environment; whose token is in it is nobody's business where workers run."""
    return {key: value for key, value in os.environ.items() if key not in OWN_TOKENS}


class Engine(Protocol):
    """One place where workers run. What it raises is `EngineUnavailable`."""

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        """Ask for workers; those that are there without work, too, are `kept`."""
        ...

    def list(self) -> list[Pilot]:
        """Those that it was asked for, and that are not gone."""
        ...

    def stop(self, pilots: Sequence[Pilot]) -> None:
        """Take back those that do not run; the others hand their jobs back, and end."""
        ...
