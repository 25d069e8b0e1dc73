"""What is trained, and how: what both parts of an epoch work with."""

from typing import NamedTuple

import torch
from torch import nn

from nbody.config import Config
from nbody.history_buffer import HistoryBuffer
from nbody.model_adapter import ModelAdapter


class TrainingSetup(NamedTuple):
    """A network, what changes its weights, and what it is shown.

    Attributes:
        history: the past states that it is shown, where it sees any; the adapter's where None.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    config: Config
    adapter: ModelAdapter
    history: HistoryBuffer | None = None
