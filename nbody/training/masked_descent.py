"""An optimizer step that the device itself leaves out where there is nothing to learn.

Legend: T samples.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.errors import TrainingDiverged


def can_be_masked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's own kernel can leave a step out: fused Adam and AdamW."""
    return isinstance(optimizer, torch.optim.Adam) and all(
        group.get("fused") for group in optimizer.param_groups
    )


class MaskedDescent:
    """Steps on the mean loss of the samples that a mask picks; the host does not wait for them.

    A fused optimizer skips a step whose `found_inf` is 1, as it does for `torch.amp.GradScaler`.
    Here it is 1 where the mask is empty, and from the first loss on that is not finite.

    Attributes:
        taken: () steps that were not skipped since `begin`.
        diverged: () bool, whether a loss was not finite; the weights are those before it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._weights: list[Tensor] = [
            weight for group in optimizer.param_groups for weight in group["params"]
        ]
        device = self._weights[0].device
        self.taken = torch.zeros((), dtype=torch.long, device=device)
        self.diverged = torch.zeros((), dtype=torch.bool, device=device)
        # A graph keeps the numbers that it was captured with: what changes must be a tensor.
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]

    def begin(self) -> None:
        """Take over the learning rates as they are now; count from zero."""
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.taken.zero_()
        self.diverged.zero_()

    def __call__(
        self, losses: Float[Tensor, " T"], mask: Bool[Tensor, " T"]
    ) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        """One step on losses (T,) where mask (T,) is true; their sum and their number."""
        count = mask.sum()
        total = torch.where(mask, losses, 0.0).sum()
        loss = total / count.clamp_min(1)
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
        self.diverged.logical_or_(~loss.isfinite())
        skipped = (count == 0) | self.diverged
        self._step(gradients, skipped)
        self.taken.add_(~skipped)
        return total.detach(), count

    def check(self) -> None:
        """Look, and raise TrainingDiverged where a loss was not finite."""
        if self.diverged:
            raise TrainingDiverged("the loss")

    def _step(self, gradients: tuple[Tensor | None, ...], skipped: Tensor) -> None:
        optimizer: Any = self.optimizer  # the two attributes are those of torch.amp
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        groups = optimizer.param_groups
        own = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
        optimizer.grad_scale, optimizer.found_inf = None, skipped.float()
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group.update(lr=rate, capturable=True)  # which a capture insists on
            optimizer.step()
        finally:
            for group, kept in zip(groups, own, strict=True):
                group.update(kept)
            del optimizer.grad_scale, optimizer.found_inf
            for weight in self._weights:  # whose gradients lie in the memory of a graph
                weight.grad = None
