"""A network as plain arrays, in the order in which the C code reads it.

Legend: F features without ln t_ref.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import Tensor, nn

from nbody.config.sections import FeatureType
from nbody.errors import NotCompilable
from nbody.model import ACTIVATIONS, LogTimeStepNN

CompiledFeatures = Literal["leading_error", "dimensionless"]  # in the order of orrery_features
COMPILED: tuple[CompiledFeatures, ...] = get_args(CompiledFeatures)
COMPILED_ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "gelu", "isru")  # of orrery_activation
WIDEST = 1024  # layer


@dataclass(frozen=True)
class Weights:
    """What a compiled stepper is made of.

    Attributes:
        features: what it looks at.
        inputs: F.
        widths: outputs of each linear map.
        activation: between them.
        waves: (waves, F) of a Fourier embedding, or None.
        values: of each map its biases, then the row of each input.
        envelope: (2, F + 1), see `LogTimeStepNN`; None where it is not known.
        calibration: factor on each step.
    """

    features: CompiledFeatures
    inputs: int
    widths: tuple[int, ...]
    activation: str
    waves: np.ndarray | None
    values: np.ndarray
    envelope: np.ndarray | None
    calibration: float = 1.0


def packed(weights: Weights) -> np.ndarray:
    """A stepper as one row of numbers, as the plugin for REBOUND unpacks it."""
    head = [
        *(COMPILED.index(weights.features), weights.inputs, len(weights.widths)),
        COMPILED_ACTIVATIONS.index(weights.activation),
        0 if weights.waves is None else 2 * len(weights.waves),
        *(weights.calibration, float(weights.envelope is not None)),
    ]
    arrays = [a.ravel() for a in (weights.waves, weights.values, weights.envelope) if a is not None]
    return np.concatenate([np.array([*head, *weights.widths], dtype=np.float64), *arrays])


def weights_of(
    model: nn.Module, features: FeatureType, history_len: int = 0, calibration: float = 1.0
) -> Weights:
    """The weights of a trained network.

    Raises:
        NotCompilable: of what it is made that the C code does not have.
    """
    if features not in COMPILED:
        raise NotCompilable(f"its features are {features!r}; C has those of {', '.join(COMPILED)}")
    if not isinstance(model, LogTimeStepNN):
        raise NotCompilable("its head is softplus, which knows no scale of the system; C has 'log'")
    if history_len:
        raise NotCompilable("it looks at past states; the C code keeps nothing between calls")
    maps = [layer for layer in model.model if isinstance(layer, nn.Linear)]
    if max(layer.out_features for layer in maps) > WIDEST:
        raise NotCompilable(f"a layer is wider than {WIDEST}")
    kinds = {type(layer) for layer in model.model}
    between = [name for name, kind in ACTIVATIONS.items() if kind in kinds]
    envelope = _plain(model.envelope)
    return Weights(
        features=features,
        inputs=model.input_dim - 1,
        widths=tuple(layer.out_features for layer in maps),
        activation=between[0] if between else "isru",
        waves=None if model.embedding is None else _plain(model.embedding.B),
        values=np.concatenate([part for layer in maps for part in _in_order(layer)]),
        envelope=envelope if bool((envelope[0] <= envelope[1]).all()) else None,
        calibration=calibration,
    )


def _in_order(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return _plain(layer.bias), _plain(layer.weight).T.ravel()


def _plain(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
