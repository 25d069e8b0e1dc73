"""What a proof is: many rounds under a fault, and how often a promise was broken."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Counted:
    """How a proof went.

    Attributes:
        rounds: faults that were tried.
        broken: how often the promise did not hold.
        note: what else was counted.
        found: what was broken, in words.
    """

    rounds: int
    broken: int
    note: str = ""
    found: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Proof:
    """A promise, and a way to try it.

    Attributes:
        promise: what must never happen, in a few words.
        run: (random numbers, rounds, an empty folder, whether the protection is on) → the count.
        rounds: of the long run, and of the quick one.
        control_rounds: at most, without the protection; at least one must break the promise.
        needs: a program that must be installed.
    """

    promise: str
    run: Callable[[Random, int, Path, bool], Counted]
    rounds: int
    quick_rounds: int
    control_rounds: int
    needs: str | None = None
