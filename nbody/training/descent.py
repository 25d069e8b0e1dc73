"""One step of the optimizer, and what may not come of it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbody.errors import TrainingDiverged


def descend(loss: Float[Tensor, ""], optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step on a scalar loss.

    Raises:
        TrainingDiverged: the loss is not finite; the weights are untouched.
    """
    if not loss.isfinite():
        raise TrainingDiverged("the loss")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def check_weights(model: nn.Module) -> None:
    """Raises TrainingDiverged where a weight is not finite."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise TrainingDiverged(f"weight {name}")
