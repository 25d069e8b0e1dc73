"""What a run keeps of its states: all of them, or those at chosen times.

Legend: B systems, N particles, D dimensions.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.errors import SimulationImpossible
from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.states import States

MOST_NUMBERS = 2**27  # of all recorded states: a gigabyte
NUMBERS_OF_OVERHEAD = 200  # what a state's small tensors take besides their numbers


class Recorded(NamedTuple):
    """What is kept of a state: (B,), (B, N, D) twice, (B,)."""

    time: Float[Tensor, " B"]
    position: Float[Tensor, "B N D"]
    velocity: Float[Tensor, "B N D"]
    energy: Float[Tensor, " B"]

    @classmethod
    def of(cls, states: States, time: Float[Tensor, " B"]) -> "Recorded":
        """What is kept of states at a time (B,)."""
        return cls(time, states.position, states.velocity, states.energy)


class EveryStep:
    """Keeps the state after every step."""

    def __init__(self, states: States, time: Tensor) -> None:
        self.kept = [Recorded.of(states, time)]
        self._most = most_states(states)

    def step(self, before: States, after: States, started: Tensor, time: Tensor) -> None:
        """Note a step of all systems from `started` (B,) to `time` (B,)."""
        del before, started
        self.kept.append(Recorded.of(after, time))
        if len(self.kept) > self._most:
            raise SimulationImpossible(
                f"no more than {self._most} states are kept; end earlier (steps, duration, "
                "Nperiod), or choose output_every"
            )


class AtTimes:
    """Keeps the states at given times, each by a step of its own from the last state before it.

    The run itself goes on from where it was: what is looked at changes nothing.
    """

    def __init__(
        self, states: States, time: Tensor, times: Float[Tensor, " K"], repeats: int
    ) -> None:
        self._times, self._first, self._most = times, time, most_states(states)
        self._repeats = repeats  # KDK steps that the run takes at once
        self._next = torch.zeros_like(time, dtype=torch.long)  # (B,)
        self._kept: list[Recorded] = []  # where some systems are not there yet, with NaN
        self._reached(states, time)

    @property
    def kept(self) -> list[Recorded]:
        """The states at the times that every system reached."""
        reached = self._kept[: int(self._next.min())]
        if not reached:
            raise SimulationImpossible(
                f"the run ended before the first output time, {float(self._times[0]):g}"
            )
        return reached

    def step(self, before: States, after: States, started: Tensor, time: Tensor) -> None:
        """Note a step of all systems from `started` (B,) to `time` (B,)."""
        del after
        while True:
            due = self._due()
            here = (due > started) & (due <= time * (1 + 1e-12))
            if not bool(here.any()):
                return
            ahead = torch.where(here, due - started, 0.0)
            dt, repeats = ahead / self._repeats, self._repeats
            aside = before.step(dt, repeats, gated=False)
            self._write(Recorded.of(before.after(aside), due), here)

    def _reached(self, states: States, time: Tensor) -> None:
        here = self._due() <= time
        if bool(here.any()):
            self._write(Recorded.of(states, time), here)

    def _due(self) -> Tensor:
        """The next time (B,) of each system; infinity where there is none left."""
        last = len(self._times) - 1
        due = self._first + self._times[self._next.clamp_max(last)]
        return torch.where(self._next > last, torch.inf, due)

    def _write(self, state: Recorded, here: Tensor) -> None:
        while len(self._kept) <= int(self._next[here].max()):
            self._kept.append(Recorded(*(torch.full_like(v, torch.nan) for v in state)))
        if len(self._kept) > self._most:
            raise SimulationImpossible(
                f"no more than {self._most} states are kept; output less often, or end earlier"
            )
        for row in cast(list[int], here.nonzero().squeeze(1).tolist()):
            for kept, values in zip(self._kept[int(self._next[row])], state, strict=True):
                kept[row] = values[row]
        self._next = self._next + broadcast_mask(here, self._next)


def most_states(states: States) -> int:
    """How many states of these systems are kept."""
    return max(2, MOST_NUMBERS // (2 * states.position.numel() + NUMBERS_OF_OVERHEAD))
