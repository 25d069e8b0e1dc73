"""Geometry of vectors (..., D).

torch sums an axis of two or three entries many times slower than it adds them: on a CPU sums over
dimensions, and over few particles, are written out.
"""

from functools import reduce
from typing import cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

SHORT = 5  # entries of an axis that are added one by one


def lengths(vectors: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """Euclidean length (...) of vectors (..., D); where it is zero, so is its gradient."""
    if vectors.requires_grad:
        return cast(Tensor, torch.linalg.vector_norm(vectors, dim=-1))
    return dot(vectors, vectors).sqrt()


def as_like(value: Tensor | float, like: Tensor) -> Tensor:
    """A number as a tensor of another's type and device; a float is neither rounded on the way
    nor copied from the host."""
    if isinstance(value, Tensor):
        return value.to(like)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def dot(
    one: Float[Tensor, "..."], other: Float[Tensor, "..."], dim: int = -1
) -> Float[Tensor, "..."]:
    """Scalar product of vectors along a short axis."""
    first, *more = zip(one.unbind(dim), other.unbind(dim), strict=True)
    total = first[0] * first[1]
    for here, there in more:
        total = torch.addcmul(total, here, there)
    return total


def total(values: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Sum over an axis that may be short."""
    size = values.shape[dim]
    if values.is_cuda or not 0 < size <= SHORT:
        return values.sum(dim)
    return reduce(torch.add, values.unbind(dim))


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
