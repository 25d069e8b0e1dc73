"""Neural time steppers for gravitational N-body integrators.

Public names are loaded on first use (PEP 562), so that torch-free parts such as `nbody.config` can
be imported by programs that must not load torch.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbody.cores import wait_briefly

if TYPE_CHECKING:
    from nbody.checkpoint import (
        load_checkpoint,
        load_config_from_checkpoint,
        load_model_state,
        save_checkpoint,
    )
    from nbody.config import Config
    from nbody.evaluation.score import evaluate
    from nbody.generalization_training import (
        evaluate_minibatch,
        generalize_on_trajectory,
        sample_minibatch,
    )
    from nbody.history_buffer import HistoryBuffer
    from nbody.initial_conditions.from_config import initial_particle
    from nbody.integrators.oracle import first_crossing
    from nbody.metrics import EpochMetrics
    from nbody.model import FullyConnectedNN, LogTimeStepNN, build_model
    from nbody.model_adapter import ModelAdapter
    from nbody.particle import ParticleTorch, make_particle, stack_particles
    from nbody.simulation.run import simulate
    from nbody.stepper import Stepper, load_stepper
    from nbody.training.run import TrainingRun
    from nbody.training.trajectory import Trajectory
    from nbody.trajectory_collection import (
        attempt_single_step,
        check_energy_threshold,
        collect_trajectory,
        collect_trajectory_step,
        compute_single_step_loss,
    )
    from nbody.unified_training import epochs, run_two_phase_training, train_epoch_two_phase

if sys.argv[:1] == ["-m"]:  # so it is while `python -m nbody…` looks for its module
    wait_briefly()

# The module of each name above; a test compares both.
_MODULE_OF = {
    "Config": "config",
    "EpochMetrics": "metrics",
    "ParticleTorch": "particle",
    "make_particle": "particle",
    "stack_particles": "particle",
    "HistoryBuffer": "history_buffer",
    "ModelAdapter": "model_adapter",
    "FullyConnectedNN": "model",
    "LogTimeStepNN": "model",
    "build_model": "model",
    "attempt_single_step": "trajectory_collection",
    "check_energy_threshold": "trajectory_collection",
    "compute_single_step_loss": "trajectory_collection",
    "collect_trajectory_step": "trajectory_collection",
    "collect_trajectory": "trajectory_collection",
    "Trajectory": "training.trajectory",
    "sample_minibatch": "generalization_training",
    "evaluate_minibatch": "generalization_training",
    "generalize_on_trajectory": "generalization_training",
    "train_epoch_two_phase": "unified_training",
    "run_two_phase_training": "unified_training",
    "epochs": "unified_training",
    "TrainingRun": "training.run",
    "save_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_model_state": "checkpoint",
    "load_config_from_checkpoint": "checkpoint",
    "Stepper": "stepper",
    "load_stepper": "stepper",
    "simulate": "simulation.run",
    "evaluate": "evaluation.score",
    "first_crossing": "integrators.oracle",
    "initial_particle": "initial_conditions.from_config",
}


__all__ = [
    "Config",
    "EpochMetrics",
    "FullyConnectedNN",
    "HistoryBuffer",
    "LogTimeStepNN",
    "ModelAdapter",
    "ParticleTorch",
    "Stepper",
    "TrainingRun",
    "Trajectory",
    "attempt_single_step",
    "build_model",
    "check_energy_threshold",
    "collect_trajectory",
    "collect_trajectory_step",
    "compute_single_step_loss",
    "epochs",
    "evaluate",
    "evaluate_minibatch",
    "first_crossing",
    "generalize_on_trajectory",
    "initial_particle",
    "load_checkpoint",
    "load_config_from_checkpoint",
    "load_model_state",
    "load_stepper",
    "make_particle",
    "run_two_phase_training",
    "sample_minibatch",
    "save_checkpoint",
    "simulate",
    "stack_particles",
    "train_epoch_two_phase",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
