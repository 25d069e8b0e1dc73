"""Which code runs a run's iterations, kept from epoch to epoch.

A CPU computes only what an iteration needs: it gathers the orbits that still collect, the samples
that fail. To read a value back from a GPU, or to launch a kernel on it, takes time: there the same
iterations run under masks, on tensors that stay in place, and are launched as CUDA graphs.
"""

from typing import Any

import torch

from nbody.config.size import samples_of_epoch
from nbody.particle import ParticleTorch
from nbody.training.collection import Collection
from nbody.training.collection_on_device import DeviceCollection
from nbody.training.generalization import Learner
from nbody.training.generalization_on_device import DeviceLearner
from nbody.training.masked_descent import can_be_masked
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup


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
        self, training: TrainingSetup, particle: ParticleTorch, steps: int
    ) -> Collection:
        """Orbits that start from `particle`, on their way through Part 1."""
        if not self._stays(training, particle.position.device):
            return Collection(training, particle, steps)
        shape = (
            *particle.position.shape,
            particle.position.dtype,
            particle.softening,
            particle.external_field,
            particle.energy_threshold is None,
            particle.period is None,
        )
        made_for = (*training, steps, shape)
        if self._collection is None or not _same(made_for, self._collects):
            self._collection = DeviceCollection(training, particle, steps)
            self._collects = made_for
        else:
            self._collection.restart(particle)
        return self._collection

    def learner(
        self, training: TrainingSetup, samples: Samples, size: int
    ) -> Learner | DeviceLearner:
        """Iterations of Part 2 on minibatches of `size` of the samples, which may be another in
        the next epoch."""
        if not self._stays(training, samples.features.device):
            return Learner(training, samples)
        states, config = samples.states, training.config
        room = max(size, min(config.replay_batch_size, samples_of_epoch(config)))
        shape = (
            room,
            *states.position.shape[1:],
            samples.features.shape[1],
            states.position.dtype,
            states.softening,
            states.field,
            states.threshold is None,
        )
        made_for = (training.model, training.optimizer, training.config, shape)
        if self._learner is None or not _same(made_for, self._learns):
            self._learner = DeviceLearner(training, samples, room)
            self._learns = made_for
        self._learner.begin()
        return self._learner

    def _stays(self, training: TrainingSetup, device: torch.device) -> bool:
        wanted = self._on_device
        if wanted is None:
            config = training.config  # tracing where a NaN was made asks the device, each time
            wanted = device.type == "cuda" and config.cuda_graphs and not config.detect_anomaly
        return wanted and can_be_masked(training.optimizer)


def _same(one: Any, other: Any) -> bool:
    """Whether two tuples hold the very same objects, and end in equal shapes."""
    *ours, shape = one
    *theirs, other_shape = other
    return all(a is b for a, b in zip(ours, theirs, strict=True)) and shape == other_shape
