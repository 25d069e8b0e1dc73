"""Features of the step's own error series.

Legend: ... any leading axes (systems).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.features.dimensionless import geometry, shape_features
from nbody.integrators.error_crossing import crossing_of
from nbody.integrators.error_series import error_series
from nbody.integrators.states import States


def error_series_features(
    states: States, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "... F"]:
    """Features of the step's own error series, (..., 24), invariant as those above; the last is
    ln of the step at which the series crosses the threshold.

    Args:
        states: leading axes of any shape.
        threshold: of the relative energy error, one number or (...,).
    """
    velocity = states.velocity
    pairs = geometry(states.position, velocity, states.softening)
    shape = shape_features(pairs, velocity, states.mass, states.softening)
    log_unit = shape[..., -1]
    coefficients = error_series(states, log_unit.exp())
    crossing = crossing_of(coefficients, threshold * states.energy.abs())
    columns = (crossing.features, crossing.log_step.unsqueeze(-1), shape[..., :-1])
    return torch.cat((*columns, (log_unit + crossing.log_step).unsqueeze(-1)), dim=-1)
