"""The networks: features (B, F) → (B, outputs), the first of which is the time step."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nbody.config import Config
from nbody.config.input_width import OUTPUTS

ENVELOPE_MARGIN = 0.02  # of a feature's range
ENVELOPE_NOISE = 1e-4  # where a feature was the same in all that was seen
INITIAL_LOG_RATIO = math.log(0.05)  # an untrained stepper starts on the safe side of the gate


class ISRU(nn.Module):
    """Inverse square root unit, x / sqrt(1 + x²): smooth and cheap (Carlile et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(1 + x * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "isru": ISRU,
}


class FourierFeatureEmbedding(nn.Module):
    """Random Fourier features [sin 2πBx, cos 2πBx] with B ~ N(0, scale²) (Tancik et al. 2020)."""

    def __init__(self, input_dim: int, embedding_dim: int, scale: float) -> None:
        super().__init__()
        matrix = torch.randn(embedding_dim // 2, input_dim) * scale
        self.B = nn.Parameter(matrix, requires_grad=False)

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B embedding"]:
        phase = 2 * math.pi * x @ self.B.T  # (B, embedding_dim / 2)
        return torch.cat((phase.sin(), phase.cos()), dim=-1)


class FullyConnectedNN(nn.Module):
    """Linear, activation and dropout, closed by Linear and, for positive outputs, softplus.

    Inputs may be of another floating-point type than the weights; outputs are of that of the
    inputs.

    Args:
        input_dim: F, width of the input.
        output_dim: outputs per sample.
        hidden_dims: widths of the hidden layers.
        activation: relu, tanh, sigmoid, silu, gelu or isru.
        dropout: probability; 0 leaves the layers out.
        output_positive: close with softplus.
        fourier_scale: scale of a random Fourier embedding of the input; none where <= 0.
        fourier_dim: width of that embedding, even.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dims: Sequence[int] = (64, 64),
        activation: str = "relu",
        dropout: float = 0.0,
        output_positive: bool = True,
        fourier_scale: float = -1.0,
        fourier_dim: int = 256,
    ) -> None:
        super().__init__()
        if activation.lower() not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}")
        self.input_dim = input_dim
        self.embedding = (
            FourierFeatureEmbedding(input_dim, fourier_dim, fourier_scale)
            if fourier_scale > 0
            else None
        )
        layers: list[nn.Module] = []
        width = input_dim if self.embedding is None else fourier_dim
        for hidden in hidden_dims:
            layers += [nn.Linear(width, hidden), ACTIVATIONS[activation.lower()]()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = hidden
        layers.append(nn.Linear(width, output_dim))
        if output_positive:
            layers.append(nn.Softplus())
        self.model = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B outputs"]:
        inside = x.to(cast(nn.Linear, self.model[0]).weight.dtype)
        if self.embedding is not None:
            inside = self.embedding(inside)
        return self.model(inside).to(x.dtype)


class LogTimeStepNN(FullyConnectedNN):
    """dt = t_ref · exp(network(dimensionless part)); the input's last column is ln t_ref.

    Scaling a system by λ scales t_ref, and so dt, by λ^1.5, exactly. Arguments as for
    FullyConnectedNN, whose `input_dim` here counts the last column.

    The network knows where it was trained, its envelope: least and largest of each feature that it
    has seen and, in the last column, of ln(dt/t_ref) of the steps that passed. Outside it has
    learned nothing, and whoever takes its steps must ask (`knows`).

    Attributes:
        envelope: (2, input_dim); empty, from infinity to minus infinity, before it was trained.
    """

    envelope: Tensor

    def __init__(self, input_dim: int, output_dim: int, **options: Any) -> None:
        super().__init__(input_dim - 1, output_dim, output_positive=False, **options)
        self.input_dim = input_dim
        last = self.model[-1]
        if isinstance(last, nn.Linear):
            with torch.no_grad():
                last.weight.mul_(0.1)
                last.bias.fill_(INITIAL_LOG_RATIO)
        nothing = torch.tensor([[torch.inf], [-torch.inf]]).repeat(1, input_dim)
        self.register_buffer("envelope", nothing)
        self.register_load_state_dict_pre_hook(_without_envelope)

    @torch.no_grad()
    def see(self, x: Float[Tensor, "B F"], dt: Float[Tensor, " B"]) -> None:
        """Widen the envelope by inputs and the steps that passed there."""
        if len(x):
            seen = torch.cat((x[:, :-1], dt.log().unsqueeze(1) - x[:, -1:]), dim=1)
            ends = torch.minimum(self.envelope[0], seen.amin(0)), seen.amax(0)
            self.envelope.copy_(torch.stack((ends[0], torch.maximum(self.envelope[1], ends[1]))))

    def knows(self, x: Float[Tensor, "B F"]) -> Bool[Tensor, " B"]:
        """Which inputs lie in the envelope; all of them for a network that has none."""
        low, high = self.envelope[:, :-1]
        if not bool((low <= high).all()):
            return torch.ones_like(x[:, 0], dtype=torch.bool)
        margin = ENVELOPE_MARGIN * (high - low) + ENVELOPE_NOISE
        features = x[:, :-1]
        return ((features >= low - margin) & (features <= high + margin)).all(1)

    def bounded(self, x: Float[Tensor, "B F"], dt: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The steps, corrected by no more than in training."""
        low, high = self.envelope[:, -1]
        if not bool(low <= high):
            return dt
        return torch.minimum(torch.maximum(dt, (x[:, -1] + low).exp()), (x[:, -1] + high).exp())

    def cautious(self, x: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
        """Steps as short, in units of t_ref, as the shortest that passed in training."""
        return (x[:, -1] + self.envelope[0, -1]).exp()

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B outputs"]:
        return (x[:, -1:] + super().forward(x[:, :-1])).exp()


def _without_envelope(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Checkpoints that are older than the envelope have none."""
    state.setdefault(f"{prefix}envelope", cast(LogTimeStepNN, module).envelope)


def build_model(config: Config, input_dim: int) -> FullyConnectedNN:
    """The network that a config asks for, for inputs of width `input_dim`."""
    options: dict[str, Any] = {
        "hidden_dims": config.hidden_dims,
        "activation": config.activation,
        "dropout": config.dropout,
        "fourier_scale": config.fourier_scale,
        "fourier_dim": config.fourier_dim,
    }
    if config.dt_head == "log":
        return LogTimeStepNN(input_dim, OUTPUTS, **options)
    return FullyConnectedNN(input_dim, OUTPUTS, output_positive=True, **options)
