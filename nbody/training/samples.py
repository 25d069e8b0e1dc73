"""What a network is trained on: states, what it sees there, and the steps it should find.

Legend: T samples.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.config import Config
from nbody.integrators.oracle import first_crossing
from nbody.integrators.states import States
from nbody.model_adapter import gate_threshold
from nbody.watcher import Watcher


class Samples:
    """States to predict for, what the network sees there and, where the loss needs it, dt*.

    The states of a selection are gathered when they are first asked for: most iterations of Part 2
    look at features and targets alone.

    Attributes:
        features: (T, F)
        dt_star: (T,), or None.
    """

    def __init__(
        self,
        states: States,
        features: Float[Tensor, "T F"],
        dt_star: Float[Tensor, " T"] | None,
        rows: Int[Tensor, " T"] | None = None,
    ) -> None:
        """Samples whose states are all of `states`, or its `rows` (T,)."""
        self.features, self.dt_star = features, dt_star
        self._states, self._rows = states, rows

    @classmethod
    def of(
        cls,
        states: States,
        features: Float[Tensor, "T F"],
        config: Config,
        watcher: Watcher | None = None,
    ) -> "Samples":
        """The samples that the config's loss is taken over; the oracle is asked here, once."""
        if config.loss != "oracle":
            return cls(states, features, None)
        threshold = gate_threshold(states, config)
        return cls(states, features, first_crossing(states, threshold, config.n_steps, watcher))

    @property
    def states(self) -> States:
        """The samples' states, T of them."""
        if self._rows is not None:
            self._states, self._rows = self._states.take(self._rows), None
        return self._states

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: Int[Tensor, " A"] | Bool[Tensor, " T"]) -> "Samples":
        """The samples that an index or a mask picks."""
        rows = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
        dt_star = None if self.dt_star is None else self.dt_star.index_select(0, rows)
        return Samples(self.states, self.features.index_select(0, rows), dt_star, rows)

    def copy_(self, samples: "Samples", rows: Int[Tensor, " T"], with_states: bool = True) -> None:
        """Overwrite these samples, in place, with the `rows` (T,) of others.

        Args:
            with_states: whether the states are wanted, too.
        """
        torch.index_select(samples.features, 0, rows, out=self.features)
        if self.dt_star is not None and samples.dt_star is not None:
            torch.index_select(samples.dt_star, 0, rows, out=self.dt_star)
        if with_states:
            self.states.copy_(samples.states.take(rows))
