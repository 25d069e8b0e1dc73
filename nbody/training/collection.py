"""Part 1 under way: where each orbit is, what was recorded, what is still to do.

Every orbit is stepped in one batch and accepted by itself: an orbit whose step passes the gate
moves on, one whose step fails is trained on and tried again from the same state. What is recorded
is the state that was tested, with the step that it passed with.

Legend: B orbits, A of them at a time, F features.
"""

import warnings
from typing import cast

import torch
from torch import Tensor

from nbody.config import Config
from nbody.errors import StepImpossible
from nbody.integrators.gated_step import halve_until_passing
from nbody.integrators.measured_step import Step
from nbody.integrators.states import States
from nbody.model_adapter import gate_dt, gate_threshold
from nbody.particle import ParticleTorch
from nbody.training.collection_record import CollectionRecord
from nbody.training.descent import descend
from nbody.training.losses import losses_of
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.watcher import Watcher


class Collection:
    """The orbits of one epoch on their way through the gate."""

    def __init__(self, training: TrainingSetup, particle: ParticleTorch, steps: int) -> None:
        self.training = training
        self.model, self.optimizer, self.config, self.adapter, history = training
        self.history = self.adapter.history_buffer if history is None else history
        if not self.adapter.history_enabled:
            self.history = None
        self.single = not particle.is_batch
        self.particle = particle.batched()  # what the orbits started from
        self.states = self.particle.states()  # the present state of every orbit
        self.adapter.fit_scales(self.particle)
        _check_energy(self.states, self.config)
        batch, like = len(self.states), self.states.energy
        self.steps = steps
        self.last_dt = self.particle.dt.detach().expand(batch).clone()
        self.time = self.particle.current_time.detach().expand(batch).clone()
        self.end = None  # (B,) time at which an orbit collects no more
        if self.config.stop_at_period and self.particle.period is not None:
            self.end = self.time + self.particle.period
        self.threshold = torch.as_tensor(
            gate_threshold(self.states, self.config), dtype=like.dtype, device=like.device
        ).expand(batch)
        self.features: Tensor = self.adapter.features_of(self.states, self.last_dt, self.history)
        self.dt_star = torch.full_like(like, torch.nan)  # of the present states, where known
        self.record = CollectionRecord(steps, self.states, self.features)
        self.optimizer_steps = 0

    def run(self, watcher: Watcher, max_retrain_warn: int = 1000) -> None:
        """Until every orbit has its steps."""
        config = self.config
        while len(orbits := self._collecting()):
            states, features = self._of(orbits)
            dt = gate_dt(self.model, features)
            step = states.step(dt, config.n_steps)
            passed = step.energy_error < self.threshold.index_select(0, orbits)
            failing = (~passed).nonzero().squeeze(1)
            if not len(failing):
                self._accept(orbits, states, features, dt, step)
            else:
                if len(failing) < len(orbits):
                    good = passed.nonzero().squeeze(1)
                    part = states.take(good), features[good], dt[good], step.take(good)
                    self._accept(orbits[good], *part)
                self._retry(orbits[failing], dt[failing], max_retrain_warn)
            watcher.tick()

    def final_particle(self) -> ParticleTorch:
        """Where the orbits are now; a single system where one was given."""
        final = ParticleTorch.of_states(
            self.states, dt=self.last_dt, current_time=self.time, period=self.particle.period
        ).clone_detached()
        return final.select(0) if self.single else final

    def _collecting(self) -> Tensor:
        """Indices (A,) of the orbits that still need steps."""
        needs = self.record.accepted < self.steps
        if self.end is not None:
            needs = needs & (self.time < self.end)
        return needs.nonzero().squeeze(1)

    def _of(self, orbits: Tensor) -> tuple[States, Tensor]:
        if len(orbits) == len(self.states):
            return self.states, self.features
        return self.states.take(orbits), self.features[orbits]

    def _accept(
        self, orbits: Tensor, states: States, features: Tensor, dt: Tensor, step: Step
    ) -> None:
        """Record the tested states of some orbits and move those orbits on."""
        time, last_dt = self.time[orbits], self.last_dt[orbits]
        self.record.put(orbits, states, features, dt, step, time, last_dt)
        if self.history is not None:
            mask = torch.zeros(len(self.states), dtype=torch.bool, device=orbits.device)
            mask[orbits] = True
            self.history.push_states(self.states, self.last_dt, mask)
        self.dt_star[orbits] = torch.nan
        self.last_dt[orbits] = dt
        self.time[orbits] = time + dt * self.config.n_steps
        after = states.after(step)
        everyone = len(orbits) == len(self.states)
        self.states = after if everyone else self.states.replaced(orbits, after)
        if everyone or self.history is not None:
            self.features = self.adapter.features_of(self.states, self.last_dt, self.history)
        else:
            fresh = self.adapter.features_of(after, dt)
            self.features = torch.index_copy(self.features, 0, orbits, fresh)

    def _retry(self, orbits: Tensor, dt: Tensor, max_retrain_warn: int) -> None:
        """Train on the states of orbits whose step failed, or shorten the step at the cap."""
        count = self.record.reject(orbits)
        if (count == max_retrain_warn + 1).any():
            self._warn_of_rejections(max_retrain_warn)
        if self.config.max_retrain_steps:
            spent = count > self.config.max_retrain_steps
            self._accept_shortened(orbits[spent], dt[spent])
            orbits = orbits[~spent]
        elif (count == max_retrain_warn).any():
            self._shorten(orbits, dt)  # raises where no step would pass
        if len(orbits):
            self._retrain(orbits)

    def _retrain(self, orbits: Tensor) -> None:
        """One optimizer step on the states of orbits that failed."""
        states, features = self._of(orbits)
        dt_star = None
        if self.config.loss == "oracle":
            unknown = orbits[self.dt_star[orbits].isnan()]
            if len(unknown):
                fresh = Samples.of(*self._of(unknown), self.config).dt_star
                self.dt_star[unknown] = self.dt_star[unknown] if fresh is None else fresh
            dt_star = self.dt_star[orbits]
        self.model.train()
        losses = losses_of(self.model, Samples(states, features, dt_star), self.config)
        self.record.retrain(losses.detach().sum(), len(losses))
        descend(losses.mean(), self.optimizer)
        self.optimizer_steps += 1

    def _shorten(self, orbits: Tensor, dt: Tensor) -> Tensor:
        """Halve the steps of some orbits until each passes the gate.

        Raises:
            StepImpossible: none does.
        """
        states, _ = self._of(orbits)
        halved = halve_until_passing(states, dt, self.threshold[orbits], self.config.n_steps)
        if halved.impossible.any():
            stuck = cast(list[int], orbits[halved.impossible].tolist())
            raise StepImpossible(stuck, self.config.energy_threshold)
        return halved.dt

    def _warn_of_rejections(self, limit: int) -> None:
        warnings.warn(
            f"one step was rejected more than {limit} times; max_retrain_steps "
            "would cap its retraining",
            stacklevel=5,
        )

    def _accept_shortened(self, orbits: Tensor, dt: Tensor) -> None:
        """Move on orbits whose retraining is spent, with a step that passes."""
        if len(orbits):
            dt = self._shorten(orbits, dt)
            states, features = self._of(orbits)
            self._accept(orbits, states, features, dt, states.step(dt, self.config.n_steps))


def _check_energy(states: States, config: Config) -> None:
    """A relative error needs energies that are finite, and some energy to be relative to."""
    usable = states.energy.isfinite() & ((states.scale > 0) | (states.gate == "each"))
    if not usable.all():
        raise StepImpossible((~usable).nonzero().squeeze(1).tolist(), config.energy_threshold)
