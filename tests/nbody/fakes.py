"""Networks and states that stand in tests of several rooms."""

import math

import torch
from torch import nn

from nbody.config import Config
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.states import States
from nbody.model_adapter import ModelAdapter
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun

ONE = torch.ones(1, dtype=torch.float64)
CONFIG = Config(num_orbits=4, hidden_dims=[8], dropout=0.0, epochs=1, seed=1, device="cpu")


class ConstantStep(nn.Module):
    """Answers the same dt for every state; training moves ln dt."""

    def __init__(self, dt: float) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.tensor(math.log(dt), dtype=torch.float64))
        self.seen: list[torch.Tensor] = []

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.seen.append(features.detach().clone())
        return self.log_dt.exp().expand(features.shape[0], 2)

    @property
    def dt(self) -> float:
        return self.log_dt.detach().exp().item()


def orbit(e: float, mean_anomaly: float = 0.0) -> States:
    """One state of two unit masses with a = 1."""
    particle = kepler_orbits(e * ONE, ONE, mean_anomaly * ONE, 1.0, 2)
    return particle.replace(energy_threshold=2e-4 * ONE).states()


def untrained() -> Stepper:
    """A stepper whose network was never trained."""
    run = TrainingRun.start(CONFIG)
    return Stepper(run.model, ModelAdapter(CONFIG))
