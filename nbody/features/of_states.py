"""State → network input, by the name of its features."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.sections import FeatureType
from nbody.config.size import FEATURED_PAIRS, FEATURED_PAIRS_ON_GPU
from nbody.features.dimensionless import dimensionless_features
from nbody.features.error_columns import error_series_features
from nbody.features.leading_error import leading_error_features
from nbody.features.original import system_features
from nbody.integrators.states import States


def features_of_states(
    states: States, feature_type: FeatureType, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "... F"]:
    """What a network without history sees of states with leading axes (...): (..., F).

    Many states go through in parts, so that their pairs need not all be in memory, but in a cache.

    Args:
        threshold: of the relative energy error; `error_series` and `leading_error` look at it.
    """
    at_once = FEATURED_PAIRS_ON_GPU if states.energy.is_cuda else FEATURED_PAIRS
    whole = torch.compiler.is_compiling() or not states.energy.dim()
    rows: Sequence[Tensor] = [] if whole else states.parts(at_once)
    if len(rows) < 2:
        return _features_of_all(states, feature_type, threshold)
    if isinstance(threshold, Tensor):
        threshold = threshold.expand(states.energy.shape)
    parts: list[Tensor] = []
    for part in rows:
        own = threshold[part] if isinstance(threshold, Tensor) else threshold
        parts.append(_features_of_all(states.take(part), feature_type, own))
    return torch.cat(parts)


def _features_of_all(
    states: States, feature_type: FeatureType, threshold: Tensor | float
) -> Tensor:
    if feature_type == "error_series":
        return error_series_features(states, threshold)
    if feature_type == "leading_error":
        return leading_error_features(states, threshold)
    position, velocity, mass = states.position, states.velocity, states.mass
    if feature_type == "dimensionless":
        return dimensionless_features(position, velocity, mass, states.softening)
    return system_features(position, velocity, mass, states.softening, feature_type)
