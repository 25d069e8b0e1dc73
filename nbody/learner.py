"""One iteration of Part 2: a minibatch, whether it is done with, and one optimizer step on it.

Legend: M samples of a minibatch.
"""

import torch
from torch import Tensor

from nbody.masked_descent import MaskedDescent
from nbody.replay import Replay
from nbody.sample_loss import Samples, descend, losses_of
from nbody.training import Training
from nbody.verdict import Verdict, is_done, judge

CHECK_EVERY = 10  # iterations between looks at the gate, where the loss itself does not need it


class Learner:
    """Iterations that compute only what each one needs, for a device that is asked at no cost.

    Attributes:
        check_every: iterations between two questions whether the minibatch is done with.
    """

    def __init__(self, training: Training, samples: Samples) -> None:
        self.model, self.optimizer, self.config = training[:3]
        self.check_every = 1 if self.config.loss == "band_failing" else CHECK_EVERY
        self._batch = samples
        self._verdict: Verdict | None = None

    def load(self, samples: Samples, rows: Tensor) -> None:
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

    def check(self) -> None:
        """Nothing to say: a loss that is not finite has been raised where it was seen."""


class DeviceLearner:
    """The same on tensors that stay in place, without a word to the host between two questions."""

    check_every = CHECK_EVERY

    def __init__(self, training: Training, samples: Samples, size: int) -> None:
        device = samples.features.device
        self.model, self.config = training.model, training.config
        first = torch.arange(size, device=device)
        self._source = samples, first
        self._batch = samples.take(first)
        self._everyone = torch.ones(size, dtype=torch.bool, device=device)
        self._done = torch.zeros((), dtype=torch.bool, device=device)
        self._descent = MaskedDescent(training.optimizer)
        self._learning, self._judging = Replay(self._learn, device), Replay(self._judge, device)

    def begin(self) -> None:
        """Start an epoch."""
        self._descent.begin()

    def load(self, samples: Samples, rows: Tensor) -> None:
        """Take the samples at `rows` (M,) as the minibatch, states where the loss needs them."""
        self._source = samples, rows
        self._batch.copy_(samples, rows, with_states=self.config.loss != "oracle")

    def done(self) -> bool:
        """Whether there is nothing left to train for on the minibatch."""
        if self.config.loss == "oracle":
            self._batch.copy_(*self._source)
        self._judging()
        return bool(self._done)

    def learn(self) -> None:
        """One optimizer step on the minibatch; with `band_failing`, on the samples that fail."""
        self._learning()

    def check(self) -> None:
        """Raise TrainingDiverged where a loss was not finite since the epoch began."""
        self._descent.check()

    def _judge(self) -> None:
        verdict = judge(self.model, self._batch, self.config)
        self._done.copy_(is_done(self._batch, verdict, self.config))

    def _learn(self) -> None:
        mask = self._everyone
        if self.config.loss == "band_failing":
            mask = ~judge(self.model, self._batch, self.config).passed
        self.model.train()
        self._descent(losses_of(self.model, self._batch, self.config), mask)
