"""Which code runs a run's iterations, kept from epoch to epoch.

A CPU computes only what an iteration needs: it gathers the orbits that still collect, the samples
that fail. A GPU is asked at a price, and each of its kernels has one: there the same iterations run
under masks, on tensors that stay in place, and are replayed as CUDA graphs.
"""

from typing import Any

import torch
from torch import nn

from nbody.collection import Collection
from nbody.config import Config
from nbody.device_collection import DeviceCollection
from nbody.history_buffer import HistoryBuffer
from nbody.learner import DeviceLearner, Learner
from nbody.masked_descent import can_be_masked
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.sample_loss import Samples


class Loops:
    """The loops of one run.

    Args:
        on_device: whether iterations stay on the device; None where CUDA and the config say so.
    """

    def __init__(self, on_device: bool | None = None) -> None:
        self._on_device = on_device
        self._collection: DeviceCollection | None = None
        self._learner: DeviceLearner | None = None
        self._collects: Any = None  # what the kept loops were made for
        self._learns: Any = None

    def collection(
        self,
        model: nn.Module,
        particle: ParticleTorch,
        optimizer: torch.optim.Optimizer,
        config: Config,
        adapter: ModelAdapter,
        history: HistoryBuffer | None,
        steps: int,
    ) -> Collection:
        """Orbits that start from `particle`, on their way through Part 1."""
        rest = optimizer, config, adapter, history
        if not self._stays(particle.position.device, optimizer, config):
            return Collection(model, particle, *rest, steps)
        shape = (
            *particle.position.shape,
            particle.position.dtype,
            particle.softening,
            particle.external_field,
            particle.energy_threshold is None,
            particle.period is None,
        )
        made_for = (model, *rest, steps, shape)
        if self._collection is None or not _same(made_for, self._collects):
            self._collection = DeviceCollection(model, particle, *rest, steps)
            self._collects = made_for
        else:
            self._collection.restart(particle)
        return self._collection

    def learner(
        self,
        model: nn.Module,
        samples: Samples,
        optimizer: torch.optim.Optimizer,
        config: Config,
        size: int,
    ) -> Learner | DeviceLearner:
        """Iterations of Part 2 on minibatches of `size` of the samples."""
        if not self._stays(samples.features.device, optimizer, config):
            return Learner(model, samples, optimizer, config)
        states = samples.states
        shape = (
            size,
            *states.position.shape[1:],
            samples.features.shape[1],
            states.position.dtype,
            states.softening,
            states.field,
            states.threshold is None,
        )
        made_for = (model, optimizer, config, shape)
        if self._learner is None or not _same(made_for, self._learns):
            self._learner = DeviceLearner(model, samples, optimizer, config, size)
            self._learns = made_for
        self._learner.begin()
        return self._learner

    def _stays(
        self, device: torch.device, optimizer: torch.optim.Optimizer, config: Config
    ) -> bool:
        wanted = self._on_device
        if wanted is None:
            wanted = device.type == "cuda" and config.cuda_graphs
        return wanted and can_be_masked(optimizer)


def _same(one: Any, other: Any) -> bool:
    """Whether two tuples hold the very same objects, and end in equal shapes."""
    *ours, shape = one
    *theirs, other_shape = other
    return all(a is b for a, b in zip(ours, theirs, strict=True)) and shape == other_shape
