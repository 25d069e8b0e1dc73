"""The pass for many particles: the same numbers and gradients as the whole pass, in less memory."""

import pytest
import torch
from torch import Tensor

from nbody.config.size import LISTED_UP_TO, PAIRS_AT_ONCE
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise
from nbody.gravity.free_fall import free_fall_time
from nbody.integrators.force_series import acceleration_series


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


@pytest.mark.parametrize("n", [4, 6, 40])
def test_second_derivatives_are_there(n: int) -> None:
    position, mass = system(n, systems=40)
    position = (4 * position).requires_grad_()

    def energy(x: Tensor) -> Tensor:
        return pairwise(x, mass, 0.5).potential_energy.sum()

    (slope,) = torch.autograd.grad(energy(position), position, create_graph=True)
    direction = torch.randn_like(position)
    (curved,) = torch.autograd.grad((slope * direction).sum(), position)
    step = 1e-5
    ends = []
    for sign in (1, -1):
        moved = (position + sign * step * direction).detach().requires_grad_()
        ends.append(torch.autograd.grad(energy(moved), moved)[0])
    torch.testing.assert_close(curved, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [3, 5, 6, 40])
def test_one_row_of_masses_serves_every_system(n: int) -> None:
    """In forces and in series of them, with as many systems as there are pairs, too."""
    systems = n * (n - 1) // 2
    position, _ = system(n, systems=systems)
    mass = torch.rand(n, dtype=torch.float64)
    wide = mass.expand(systems, n)
    path = [position, position.flip(0), position.flip(1)]
    torch.testing.assert_close(
        acceleration_series(path, mass, 0.1, None, 3), acceleration_series(path, wide, 0.1, None, 3)
    )
    torch.testing.assert_close(
        pairwise(position, mass).acceleration, pairwise(position, wide).acceleration
    )


@pytest.mark.parametrize("n", [3, 6, 30])
def test_the_time_of_free_fall_has_a_gradient(n: int) -> None:
    position, mass = system(n, systems=2)
    inputs = (position.requires_grad_(), mass.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, m: free_fall_time(x, m, 0.1), inputs)


def test_no_block_is_larger_than_the_cache() -> None:
    from nbody.gravity.blocked import _blocks

    for systems, n in ((1000, 16), (3, 4096), (7, 200), (1, PAIRS_AT_ONCE + 1)):
        seen = torch.zeros(systems, n, dtype=torch.bool)
        for some, rows in _blocks(torch.ones(systems, n)):
            pairs = (some.stop - some.start) * (rows.stop - rows.start) * n
            assert pairs <= max(PAIRS_AT_ONCE, n)
            seen[some, rows] = True
        assert seen.all()
