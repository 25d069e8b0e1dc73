"""Neural time steppers for gravitational N-body integrators.

Public names are loaded on first use (PEP 562), so that torch-free parts such as `nbody.config` can
be imported by programs that must not load torch.
"""

from importlib import import_module
from typing import Any

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
    "simulate": "simulation",
    "evaluate": "evaluation",
    "first_crossing": "integrators.oracle",
    "initial_particle": "initial_conditions",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
