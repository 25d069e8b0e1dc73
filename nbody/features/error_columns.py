"""Features of the step's own error series.

Legend: ... any leading axes (systems).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.features.dimensionless import dimensionless_features
from nbody.integrators.each_body_series import each_body_series
from nbody.integrators.error_crossing import crossing_of
from nbody.integrators.error_series import error_series
from nbody.integrators.states import States


def worst_series(
    states: States,
    coefficients: Float[Tensor, "... K"],
    limit: Float[Tensor, "..."],
    time_unit: Float[Tensor, "..."],
    threshold: Float[Tensor, "..."] | float,
) -> tuple[Float[Tensor, "... K"], Float[Tensor, "..."]]:
    """The series, of the total energy or of a body's orbit, that first reaches its limit."""
    orbits = states.orbits()
    each = each_body_series(states, orbits, time_unit)  # (..., 2N, K)
    gate = torch.as_tensor(threshold, dtype=limit.dtype, device=limit.device)
    scales = torch.cat((orbits.scale, orbits.shape_scale), dim=-1)  # (..., 2N)
    limits = gate.unsqueeze(-1) * scales if gate.dim() else gate * scales
    series = torch.cat((coefficients.unsqueeze(-2), each), dim=-2)  # (..., 1 + 2N, K)
    limits = torch.cat((limit.unsqueeze(-1), limits), dim=-1)
    limits = torch.where(limits > 0, limits, torch.inf)  # what has no energy has no error
    finite = torch.where(limits.isfinite(), limits, 1.0)
    series = torch.where(limits.isfinite().unsqueeze(-1), series, 0.0)
    first = crossing_of(series, finite).log_step.argmin(-1, keepdim=True)
    chosen = series.gather(-2, first.unsqueeze(-1).expand(*first.shape, series.shape[-1]))
    return chosen.squeeze(-2), finite.gather(-1, first).squeeze(-1)


def error_series_features(
    states: States, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "... F"]:
    """Features of the step's own error series, (..., 24), invariant as those above; the last is
    ln of the step at which the series crosses the threshold.

    Args:
        states: leading axes of any shape.
        threshold: of the relative energy error, one number or (...,).
    """
    position, velocity, mass = states.position, states.velocity, states.mass
    shape = dimensionless_features(position, velocity, mass, states.softening)
    log_unit = shape[..., -1]
    coefficients = error_series(states, log_unit.exp())
    limit = threshold * states.scale
    if states.gate == "each":
        coefficients, limit = worst_series(states, coefficients, limit, log_unit.exp(), threshold)
    crossing = crossing_of(coefficients, limit)
    columns = (crossing.features, crossing.log_step.unsqueeze(-1), shape[..., :-1])
    return torch.cat((*columns, (log_unit + crossing.log_step).unsqueeze(-1)), dim=-1)
