"""One iteration of Part 2: a minibatch, whether it is done with, and one optimizer step on it.

Legend: M samples of a minibatch.
"""

from jaxtyping import Int
from torch import Tensor

from nbody.training.descent import descend
from nbody.training.losses import losses_of
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.training.verdict import Verdict, is_done, judge

CHECK_EVERY = 10  # iterations between looks at the gate, where the loss itself does not need it


class Learner:
    """Iterations that compute only what each one needs, for a device that is asked at no cost.

    Attributes:
        check_every: iterations between two questions whether the minibatch is done with.
    """

    def __init__(self, training: TrainingSetup, samples: Samples) -> None:
        self.model, self.optimizer, self.config = training[:3]
        self.check_every = 1 if self.config.loss == "band_failing" else CHECK_EVERY
        self._batch = samples
        self._verdict: Verdict | None = None

    def load(self, samples: Samples, rows: Int[Tensor, " M"]) -> None:
        """Take the samples at `rows` (M,) as the minibatch."""
        self._batch, self._verdict = samples.take(rows), None

    def done(self) -> bool:
        """Whether there is nothing left to train for on the minibatch."""
        self._verdict = judge(self.model, self._batch, self.config)
        return bool(is_done(self._batch, self._verdict, self.config))

    def learn(self) -> None:
        """One optimizer step on the minibatch; with `band_failing`, on the samples that fail."""
        batch = self._batch
        if self.config.loss == "band_failing" and self._verdict is not None:
            batch = batch.take(~self._verdict.passed)
        if len(batch):
            self.model.train()
            descend(losses_of(self.model, batch, self.config).mean(), self.optimizer)

    def end(self) -> None:
        """Nothing to let go of: a learner of its own is made for each epoch."""

    def check(self) -> None:
        """Nothing to say: a loss that is not finite has been raised where it was seen."""
