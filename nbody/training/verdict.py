"""The gate on samples: the step that the network takes at each, its error, whether it passes.

Legend: T samples.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nbody.config import Config
from nbody.config.size import JUDGED_PAIRS, judged_at_once
from nbody.model_adapter import gate_dt, gate_threshold
from nbody.training.losses import band_scale
from nbody.training.samples import Samples


@dataclass(frozen=True)
class Verdict:
    """The steps of samples (T,), their errors, and which pass the gate."""

    dt: Float[Tensor, " T"]
    energy_error: Float[Tensor, " T"]
    passed: Bool[Tensor, " T"]  # bool

    @property
    def all_pass(self) -> bool:
        return bool(self.passed.all())


@torch.no_grad()
def judge(model: nn.Module, samples: Samples, config: Config) -> Verdict:
    """Put every sample through the gate with the present weights.

    Many samples go through in parts, so that their activations and pairs need not all be in memory.
    """
    rows = samples.states.parts(JUDGED_PAIRS, judged_at_once(config))
    if len(rows) > 1:
        parts = [judge(model, samples.take(part), config) for part in rows]
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Verdict))
        return Verdict(*(torch.cat(column) for column in columns))
    dt = gate_dt(model, samples.features)
    error = samples.states.step(dt, config.n_steps).energy_error
    return Verdict(dt, error, error < gate_threshold(samples.states, config))


def is_done(
    samples: Samples,
    verdict: Verdict,
    config: Config,
    counted: Bool[Tensor, " T"] | None = None,
) -> Bool[Tensor, ""]:
    """Whether () there is nothing left to train for on these samples; stays on their device.

    Args:
        counted: which of them are there once; the others repeat them.
    """
    done = verdict.passed.all()
    if config.loss == "oracle" and samples.dt_star is not None:
        efficiency = (verdict.dt / samples.dt_star).clamp_max(1.0)
        if counted is None:
            return done & (efficiency.mean() >= config.min_efficiency)
        mean = torch.where(counted, efficiency, 0.0).sum() / counted.sum()
        return done & (mean >= config.min_efficiency)
    if config.loss == "band":
        scale = band_scale(config.E_upper, gate_threshold(samples.states, config))
        return done & (verdict.energy_error >= config.E_lower * scale).all()
    return done
