"""The pass for many particles: the same numbers and gradients as the whole pass, in less memory."""

import pytest
import torch
from torch import Tensor

from nbody.config.size import LISTED_UP_TO, PAIRS_AT_ONCE
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise


def system(n: int, dim: int = 3, systems: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    shape = (n,) if systems is None else (systems, n)
    position = torch.randn(*shape, dim, generator=generator, dtype=torch.float64)
    return position, torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("elements", [20, 70, 800, 10**6])
@pytest.mark.parametrize("dim", [2, 3])
def test_blocks_give_what_the_whole_pass_gives(
    elements: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbody.gravity.edges.PAIRS_AT_ONCE", elements)
    position, mass = system(23, dim, systems=2)
    whole, blocked = pairwise(position, mass, 0.1), blocked_pairwise(position, mass, 0.1)
    torch.testing.assert_close(blocked[0], whole.acceleration, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(blocked[1], whole.potential_energy, rtol=1e-13, atol=0)


@pytest.mark.parametrize("elements", [10, 40, 10**6])
@pytest.mark.parametrize("softening", [0.0, 0.2])
def test_gradients_are_those_of_finite_differences(
    softening: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbody.gravity.edges.PAIRS_AT_ONCE", elements)
    position, mass = system(6, systems=3)
    inputs = (position.requires_grad_(), mass.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, m: blocked_pairwise(x, m, softening), inputs)


@pytest.mark.parametrize("n", [LISTED_UP_TO, LISTED_UP_TO + 1, 40])
def test_every_way_through_the_pairs_gives_the_same(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed pairs, the matrix at once, and the matrix in blocks."""
    found: list[tuple[Tensor, ...]] = []
    for listed, plain in ((n, 0), (0, 10**6), (0, 0)):
        monkeypatch.setattr("nbody.gravity.edges.LISTED_UP_TO", listed)
        monkeypatch.setattr("nbody.gravity.force.PLAIN_UP_TO", plain)
        position, mass = system(n, systems=3)
        inputs = position.requires_grad_(), mass.requires_grad_()
        pairs = pairwise(*inputs, 0.05)
        total = pairs.acceleration.sin().sum() + pairs.potential_energy.sum()
        found.append((*pairs, *torch.autograd.grad(total, inputs)))
    for one, other in ((0, 1), (1, 2)):
        for a, b in zip(found[one], found[other], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_no_block_is_larger_than_the_cache() -> None:
    from nbody.gravity.blocked import _blocks

    for systems, n in ((1000, 16), (3, 4096), (7, 200), (1, PAIRS_AT_ONCE + 1)):
        seen = torch.zeros(systems, n, dtype=torch.bool)
        for some, rows in _blocks(torch.ones(systems, n)):
            pairs = (some.stop - some.start) * (rows.stop - rows.start) * n
            assert pairs <= max(PAIRS_AT_ONCE, n)
            seen[some, rows] = True
        assert seen.all()
