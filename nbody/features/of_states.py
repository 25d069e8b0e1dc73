"""State → network input, by the name of its features."""

from jaxtyping import Float
from torch import Tensor

from nbody.config.sections import FeatureType
from nbody.features.dimensionless import dimensionless_features
from nbody.features.error_columns import error_series_features
from nbody.features.original import system_features
from nbody.integrators.states import States


def features_of_states(
    states: States, feature_type: FeatureType, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "... F"]:
    """What a network without history sees of states with leading axes (...): (..., F).

    Args:
        threshold: of the relative energy error; only `error_series` looks at it.
    """
    if feature_type == "error_series":
        return error_series_features(states, threshold)
    position, velocity, mass = states.position, states.velocity, states.mass
    if feature_type == "dimensionless":
        return dimensionless_features(position, velocity, mass, states.softening)
    return system_features(position, velocity, mass, states.softening, feature_type)
