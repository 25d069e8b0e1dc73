"""Stepping rules: which step a state gets.

Legend: B systems.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nbody.config import Config
from nbody.errors import SimulationImpossible
from nbody.gravity.free_fall import free_fall_time
from nbody.history_buffer import HistoryBuffer
from nbody.integrators.states import States
from nbody.simulation.time_symmetry import time_even_step
from nbody.stepper import Stepper

StepRule = Callable[[States, Tensor], Tensor]  # states, the steps that led to them → steps (B,)


def rule_of(config: Config, stepper: Stepper | None) -> tuple[StepRule, HistoryBuffer | None]:
    mode = config.integrator_mode
    if mode == "fixed":
        if config.dt is None:
            raise SimulationImpossible("integrator_mode 'fixed' needs dt")
        fixed = config.dt
        return (lambda states, _: torch.full_like(states.energy, fixed)), None
    if mode == "analytic" or (stepper is None and mode in {"gated", "reversible"}):
        return (
            lambda states, _: (
                config.eta * free_fall_time(states.position, states.mass, states.softening)
            )
        ), None
    if stepper is None:
        raise SimulationImpossible(f"integrator_mode {mode!r} needs a trained stepper")
    if mode == "history" and not stepper.adapter.history_enabled:
        raise SimulationImpossible("integrator_mode 'history' needs a stepper trained with history")
    scale = config.dt_scale
    if not stepper.adapter.history_enabled:
        if mode == "reversible":
            return (lambda states, _: scale * time_even_step(stepper, states)), None
        return (lambda states, last_dt: scale * stepper.of_states(states, last_dt)), None
    if mode == "reversible":
        raise SimulationImpossible(
            "integrator_mode 'reversible' needs a stepper trained without history"
        )
    history = HistoryBuffer(stepper.config.history_len, stepper.config.feature_type)
    return (lambda states, dt: scale * stepper.of_states(states, dt, history)), history
