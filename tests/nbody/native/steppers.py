"""Steppers that were not trained, but know where they would have been."""

from typing import Any

import torch

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.states import States
from nbody.model import LogTimeStepNN, build_model
from nbody.model_adapter import ModelAdapter
from nbody.stepper import Stepper


def small_stepper(
    feature_type: str, *, wider: float = 0.0, **fields: Any
) -> tuple[Stepper, States]:
    """A stepper, and states some of which lie in its envelope: half of those that it saw.

    Args:
        wider: by how much the envelope reaches beyond them.
    """
    integrator = "hermite4" if feature_type == "leading_error" else "leapfrog4"
    given = {"initial_conditions": "plummer", "num_particles": 5, "dim": 3, "num_systems": 12}
    layers = {"hidden_dims": [16, 8], "activation": "isru", "device": "cpu", "dropout": 0.0}
    kind = {"feature_type": feature_type, "integrator": integrator}
    config = Config(**{**given, **layers, **kind, **fields})
    states = initial_particle(config, seed=8).states()
    for _ in range(3):
        states = states.after(states.step(torch.full_like(states.energy, 1e-3)))
    adapter = ModelAdapter(config)
    features = adapter.features_of(states, torch.zeros_like(states.energy))
    torch.manual_seed(2)
    model = build_model(config, features.shape[1]).double()
    assert isinstance(model, LogTimeStepNN)
    model.see(features[:6], model(features)[:6, 0].detach())
    model.envelope += wider * torch.tensor([[-1.0], [1.0]])
    return Stepper(model, adapter), states
