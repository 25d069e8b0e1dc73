"""Geometry of vectors (..., D)."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def lengths(vectors: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """Euclidean length (...) of vectors (..., D)."""
    return cast(Tensor, torch.linalg.vector_norm(vectors, dim=-1))


def cross(one: Float[Tensor, "*B 3"], other: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Cross product (..., 3) of vectors (..., 3)."""
    return cast(Tensor, torch.linalg.cross(one, other))


def at_least_1d(tensor: Tensor) -> Tensor:
    """The tensor, or its one number as (1,)."""
    return tensor.unsqueeze(0) if tensor.dim() == 0 else tensor


def at_least_2d(tensor: Tensor) -> Tensor:
    """The tensor, or its one row as (1, F)."""
    return tensor.unsqueeze(0) if tensor.dim() == 1 else tensor


def broadcast_mask(
    mask: Bool[Tensor, " T"], values: Shaped[Tensor, " T ..."]
) -> Bool[Tensor, " T ..."]:
    """A mask (T,) shaped to broadcast with values (T, ...)."""
    return mask.reshape(-1, *(1,) * (values.dim() - 1))
