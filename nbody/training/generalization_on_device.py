"""An iteration of Part 2 on tensors that stay in place: the host does not wait for the device.

Legend: M samples of a minibatch.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from nbody.training.cuda_graph import GraphedCall
from nbody.training.generalization import CHECK_EVERY
from nbody.training.losses import losses_of
from nbody.training.masked_descent import MaskedDescent
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.training.verdict import is_done, judge


class DeviceLearner:
    """As `Learner`, on tensors that stay in place; the host waits only where it asks `done`.

    There is room for the largest minibatch of the run. A smaller one is filled up with its own
    samples again, under a mask that counts each of them once.
    """

    check_every = CHECK_EVERY

    def __init__(self, training: TrainingSetup, samples: Samples, room: int) -> None:
        device = samples.features.device
        self.model, self.config = training.model, training.config
        self._place = torch.arange(room, device=device)
        first = self._place % len(samples)
        self._source: tuple[Samples, Tensor] | None = None
        self._batch = samples.take(first)
        self._counted = torch.ones(room, dtype=torch.bool, device=device)
        self._done = torch.zeros((), dtype=torch.bool, device=device)
        self._descent = MaskedDescent(training.optimizer)
        self._learning, self._judging = (
            GraphedCall(self._learn, device),
            GraphedCall(self._judge, device),
        )

    def begin(self) -> None:
        """Start an epoch."""
        self._descent.begin()

    def load(self, samples: Samples, rows: Int[Tensor, " M"]) -> None:
        """Take the samples at `rows` (M,) as the minibatch, states where the loss needs them."""
        if len(rows) < len(self._place):
            self._counted.copy_(self._place < len(rows))
            rows = rows.index_select(0, self._place % len(rows))
        else:
            self._counted.fill_(True)
        self._source = samples, rows
        self._batch.copy_(samples, rows, with_states=self.config.loss != "oracle")

    def done(self) -> bool:
        """Whether there is nothing left to train for on the minibatch."""
        if self.config.loss == "oracle" and self._source is not None:
            self._batch.copy_(*self._source)
        self._judging()
        return bool(self._done)

    def learn(self) -> None:
        """One optimizer step on the minibatch; with `band_failing`, on the samples that fail."""
        self._learning()

    def end(self) -> None:
        """Let go of the epoch's samples."""
        self._source = None

    def check(self) -> None:
        """Raise TrainingDiverged where a loss was not finite since the epoch began."""
        self._descent.check()

    def _judge(self) -> None:
        verdict = judge(self.model, self._batch, self.config)
        self._done.copy_(is_done(self._batch, verdict, self.config, self._counted))

    def _learn(self) -> None:
        mask = self._counted
        if self.config.loss == "band_failing":
            mask = mask & ~judge(self.model, self._batch, self.config).passed
        self.model.train()
        self._descent(losses_of(self.model, self._batch, self.config), mask)
