"""Part 1 as the device runs it: the same for every orbit, under masks, without asking the host.

An attempt tries one step of every orbit and trains on those that fail; an advance moves on the
orbits that passed. Features are an advance's work, so that one serves several attempts where most
fail. Masks say which orbits have passed, and which wait for something that only the host can do: it
looks at them every few attempts.

Legend: B orbits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from nbody.device import compile_function
from nbody.integrators.measured_step import Step
from nbody.integrators.states import States
from nbody.model_adapter import dt_from_features, gate_dt
from nbody.particle import ParticleTorch
from nbody.training.collection import Collection
from nbody.training.cuda_graph import GraphedCall
from nbody.training.losses import losses_of_steps
from nbody.training.masked_descent import MaskedDescent
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.watcher import Watcher

LONGEST_STRIDE = 16  # attempts between two looks; the first few looks come sooner
MOST_ATTEMPTS = 8  # of an orbit between two advances


class DeviceCollection(Collection):
    """The orbits of an epoch on their way through the gate, in tensors that stay in place.

    One orbit goes here exactly as it goes through `Collection`. Of several, which are trained on
    together may differ: one that passed waits for the next advance, one whose dt* is asked for
    waits for the host's next look.
    """

    def __init__(self, training: TrainingSetup, particle: ParticleTorch, steps: int) -> None:
        super().__init__(training, particle, steps)
        self.states, self.features = self.states.clone(), self.features.clone()
        self.threshold = self.threshold.clone()
        device = self.features.device
        self.everyone = torch.arange(len(self.states), device=device)
        self.passed, self.spent, self.unknown, self.owed = (
            torch.zeros_like(self.everyone, dtype=torch.bool) for _ in range(4)
        )
        self.rejected = torch.zeros_like(self.everyone)  # attempts on the present states
        # Without dropout the network says the same to the gate as in training.
        self.shares_prediction = not any(isinstance(m, nn.Dropout) for m in self.model.modules())
        compiled = compile_function if self.config.compile else _as_it_is
        self._error_of, self._step_of = compiled(_error_of), compiled(_step_of)
        self._sort_out, self._losses_of = compiled(_sort_out), compiled(losses_of_steps)
        self.dt = torch.zeros_like(self.last_dt)  # of the orbits that passed
        self.descent = MaskedDescent(self.optimizer)
        self.attempt, self.advance = (
            GraphedCall(self._attempt, device),
            GraphedCall(self._advance, device),
        )

    def restart(self, particle: ParticleTorch) -> None:
        """Begin again from a batch of the same shape."""
        fresh = Collection(self.training, particle, 1)
        self.particle, self.single = fresh.particle, fresh.single
        self.states.copy_(fresh.states)
        for name in ("features", "threshold", "last_dt", "time", "dt_star"):
            getattr(self, name).copy_(getattr(fresh, name))
        if self.end is not None and fresh.end is not None:
            self.end.copy_(fresh.end)
        for counted in (self.passed, self.spent, self.unknown, self.owed, self.rejected):
            counted.zero_()
        self.record.clear()

    def run(self, watcher: Watcher, max_retrain_warn: int = 1000) -> None:
        """Until every orbit has its steps."""
        self.descent.begin()
        attempts, stride, left = 1, 1, self.steps
        accepted = rejected = 0
        while left:
            tried = 0
            for again in range(min(max(1, stride // attempts), left)):
                if again:
                    self.advance()
                for _ in range(attempts):
                    self.attempt()
                tried += attempts
            watcher.tick()
            self.descent.check()
            before = accepted, rejected
            left, ready, waiting, tallest, accepted, rejected = self._look()
            if waiting:
                self._attend()
            if ready or waiting:  # else nobody passed
                self.advance()
            if tallest >= max_retrain_warn:
                self._check_stuck(max_retrain_warn, tried)
            failures = (rejected - before[1]) // max(1, accepted - before[0])
            attempts = min(1 + failures, MOST_ATTEMPTS)
            stride = min(2 * stride, LONGEST_STRIDE)
        self.optimizer_steps = int(self.descent.taken)

    def _look(self) -> Sequence[int]:
        """Most steps that an orbit lacks once those that passed have moved on, orbits that passed,
        orbits that wait, most rejections of a state, steps accepted, rejections."""
        record = self.record
        ahead = record.accepted + (self.passed | self.spent)
        lacking = self.steps - ahead
        if self.end is not None:
            time = self.time + torch.where(self.passed, self.dt * self.config.n_steps, 0.0)
            lacking = torch.where(time < self.end, lacking, 0)
        numbers = (
            lacking.max(),
            self.passed.sum(),
            (self.spent | self.unknown).sum(),
            self._rejections().max(),
            (record.accepted + self.passed).sum(),
            record.rejections.sum() + self.rejected.sum(),
        )
        return cast(Sequence[int], torch.stack(numbers).tolist())

    def _attempt(self) -> None:
        """Try a step of every orbit that still needs one; one optimizer step on those that fail."""
        trained_dt = self._predict()
        dt = trained_dt.detach() if self.shares_prediction else gate_dt(self.model, self.features)
        error = self._error_of(self.states, dt, self.config.n_steps)
        masks = _Masks(self.passed, self.spent, self.unknown, self.owed)
        sorted_out = self._sort_out(
            error < self.threshold,
            self._needs(),
            masks,
            self.rejected,
            self.dt_star if self.config.loss == "oracle" else None,
            self.config.max_retrain_steps,
        )
        dt_star = None
        if self.config.loss == "oracle":
            dt_star = torch.where(sorted_out.trained, self.dt_star, dt)
        losses = self._losses_of(trained_dt, self.states, dt_star, self.config)
        self.record.retrain(*self.descent(losses, sorted_out.trained))
        torch.where(sorted_out.passes, dt, self.dt, out=self.dt)
        self.rejected.copy_(sorted_out.rejected)
        for mask, now in zip(masks, sorted_out.masks, strict=True):
            mask.copy_(now)

    def _predict(self) -> Tensor:
        """The steps of all orbits, differentiable."""
        self.model.train()
        return dt_from_features(self.model, self.features)

    def _advance(self) -> None:
        """Record the tested states of the orbits that passed, and move those orbits on."""
        states, last_dt, moved, dt = self.states, self.last_dt, self.passed, self.dt
        step = self._step_of(states, dt, self.config.n_steps)
        self.record.put(
            *(self.everyone, states, self.features, dt, step, self.time, last_dt),
            where=moved,
            rejected=self.rejected,
        )
        if self.history is not None:
            self.history.push_states(states, last_dt, moved)
        self.dt_star.masked_fill_(moved, torch.nan)
        self.rejected.masked_fill_(moved, 0)
        torch.where(moved, dt, last_dt, out=last_dt)
        self.time.add_(torch.where(moved, dt * self.config.n_steps, 0.0))
        states.advance_(step, moved)
        self.features.copy_(self.adapter.features_of(states, last_dt, self.history))
        moved.zero_()

    def _attend(self) -> None:
        """For orbits that wait for the host: find their dt*, or shorten their steps."""
        if len(unknown := self.unknown.nonzero().squeeze(1)):
            found = Samples.of(*self._of(unknown), self.config).dt_star
            if found is not None:
                self.dt_star.index_copy_(0, unknown, found)
            self.unknown.zero_()
        if len(spent := self.spent.nonzero().squeeze(1)):
            failing = gate_dt(self.model, self.features.index_select(0, spent))
            self.dt.index_copy_(0, spent, self._shorten(spent, failing))
            self.passed.logical_or_(self.spent)
            self.spent.zero_()

    def _check_stuck(self, max_retrain_warn: int, tried: int) -> None:
        """Once for each state that is rejected again and again: warn; raise where none passes.

        Args:
            tried: attempts since the last look.
        """
        count = self._rejections()
        now = (count >= max_retrain_warn) & (count < max_retrain_warn + tried)
        if not len(stuck := now.nonzero().squeeze(1)):
            return
        if not self.config.max_retrain_steps:
            self._shorten(stuck, gate_dt(self.model, self.features.index_select(0, stuck)))
        self._warn_of_rejections(max_retrain_warn)

    def _needs(self) -> Tensor:
        """Which orbits (B,) still need steps."""
        needs = self.record.accepted < self.steps
        return needs if self.end is None else needs & (self.time < self.end)

    def _rejections(self) -> Tensor:
        """Rejections (B,) of the present state of each orbit that still collects."""
        return torch.where(self._needs(), self.rejected, 0)


def _as_it_is(function: Any) -> Any:
    return function


class _Masks(NamedTuple):
    """(B,) bool each: which orbits have passed and wait for the next advance; wait for a shorter
    step, and for their dt*, from the host; were rejected, and not trained on yet."""

    passed: Tensor
    spent: Tensor
    unknown: Tensor
    owed: Tensor


class _SortedOut(NamedTuple):
    """What an attempt means for each orbit."""

    passes: Tensor  # (B,) bool: of those that were tested
    trained: Tensor  # (B,) bool
    rejected: Tensor  # (B,) rejections of the present states
    masks: _Masks


def _sort_out(
    under_threshold: Tensor,
    needs: Tensor,
    masks: _Masks,
    rejected: Tensor,
    dt_star: Tensor | None,
    most_rejections: int,
) -> _SortedOut:
    """Who passed, and who is trained on now.

    Args:
        dt_star: of the present states, NaN where not known; None where nobody asks.
        most_rejections: after which a step is shortened; zero where there is no such limit.
    """
    passed, spent, unknown, owed = masks
    waiting = spent | unknown
    owed_now = owed & ~waiting  # rejected before, and trained on now
    tested = needs & ~(waiting | owed_now | passed)
    passes = tested & under_threshold
    failed = tested & ~under_threshold
    rejected = rejected + failed
    trained = failed
    if most_rejections:
        exhausted = failed & (rejected > most_rejections)
        spent, trained = spent | exhausted, trained & ~exhausted
    if dt_star is not None:
        asks = trained & dt_star.isnan()
        unknown, owed = unknown | asks, (owed | asks) & ~owed_now
        trained = (trained & ~asks) | owed_now
    return _SortedOut(passes, trained, rejected, _Masks(passed | passes, spent, unknown, owed))


def _error_of(states: States, dt: Tensor, n_steps: int) -> Tensor:
    return states.step(dt, n_steps).energy_error


def _step_of(states: States, dt: Tensor, n_steps: int) -> Step:
    return states.step(dt, n_steps)
