"""Stepping rules: which step a state gets. What each needs is in `nbody.config.stepping_rules`.

Legend: B systems.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nbody.config import Config
from nbody.config.stepping_rules import STEPPING_RULES, IntegratorMode
from nbody.errors import SimulationImpossible
from nbody.history_buffer import HistoryBuffer
from nbody.integrators.states import States
from nbody.simulation.criteria import free_fall
from nbody.simulation.time_symmetry import time_even_step
from nbody.stepper import Stepper

Steps = Callable[[States, Tensor], Tensor]  # states, the steps that led to them → steps (B,)


@dataclass(frozen=True)
class Rule:
    """How a run takes its steps.

    Attributes:
        steps: what the rule asks for at each state.
        gate: halve every step until its relative energy error is under this.
        reversible: symmetrize the steps in time; they must be even in it.
        repeats: KDK steps of one dt.
    """

    steps: Steps
    gate: float | None = None
    reversible: bool = False
    repeats: int = 1


def rule_of(config: Config, stepper: Stepper | None) -> Rule:
    """The rule `config.integrator_mode`.

    Raises:
        SimulationImpossible: it needs a field or a stepper that is not there.
    """
    mode = config.integrator_mode
    needs = STEPPING_RULES[mode]
    if needs.field is not None and getattr(config, needs.field) is None:
        raise SimulationImpossible(f"integrator_mode {mode!r} needs {needs.field}")
    if needs.stepper == "required" and stepper is None:
        raise SimulationImpossible(f"integrator_mode {mode!r} needs a trained stepper")
    if stepper is not None and stepper.config.integrator != config.integrator:
        raise SimulationImpossible(
            f"the stepper was trained for the steps of {stepper.config.integrator}: use "
            f"integrator={stepper.config.integrator}, or one trained for {config.integrator}"
        )
    if needs.past is not None and stepper is not None:
        has_past, wanted = stepper.adapter.history_enabled, needs.past == "required"
        if has_past is not wanted:
            how = "with" if wanted else "without"
            raise SimulationImpossible(
                f"integrator_mode {mode!r} needs a stepper trained {how} history"
            )
    return RULES[mode](config, stepper)


def _fixed(config: Config, _: Stepper | None) -> Rule:
    return Rule(lambda states, _: torch.full_like(states.energy, config.dt or 0.0))


def _analytic(config: Config, _: Stepper | None) -> Rule:
    return Rule(lambda states, _: config.eta * free_fall(states))


def _learned(config: Config, stepper: Stepper | None) -> Rule:
    """The stepper's own steps; the analytic ones without it."""
    if stepper is None:
        return _analytic(config, None)
    scale = config.dt_scale
    if not stepper.adapter.history_enabled:
        return Rule(lambda states, last_dt: scale * stepper.of_states(states, last_dt))
    history = HistoryBuffer(stepper.config.history_len, stepper.config.feature_type)

    def with_past(states: States, last_dt: Tensor) -> Tensor:
        dt = scale * stepper.of_states(states, last_dt, history)
        history.push_states(states, last_dt)
        return dt

    # A network with a past takes the steps that it was trained on: the same dt so many times.
    return Rule(with_past, repeats=stepper.config.n_steps)


def _gated(config: Config, stepper: Stepper | None) -> Rule:
    return replace(_learned(config, stepper), gate=config.energy_threshold)


def _reversible(config: Config, stepper: Stepper | None) -> Rule:
    if stepper is None:
        return replace(_analytic(config, None), reversible=True)
    scale = config.dt_scale
    return Rule(lambda states, _: scale * time_even_step(stepper, states), reversible=True)


RULES: dict[IntegratorMode, Callable[[Config, Stepper | None], Rule]] = {
    "fixed": _fixed,
    "analytic": _analytic,
    "ml": _learned,
    "history": _learned,
    "gated": _gated,
    "reversible": _reversible,
}
