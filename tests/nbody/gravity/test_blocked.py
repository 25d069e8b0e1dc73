"""The pass for many particles: the same numbers and gradients as the whole pass, in less memory."""

import pytest
import torch
from torch import Tensor

from nbody.config.size import BLOCKED_BEYOND, LISTED_UP_TO
from nbody.gravity import blocked as blocked_gravity
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise


def system(n: int, dim: int = 3, systems: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    shape = (n,) if systems is None else (systems, n)
    position = torch.randn(*shape, dim, generator=generator, dtype=torch.float64)
    return position, torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("elements", [20, 70, 10**6])
@pytest.mark.parametrize("dim", [2, 3])
def test_blocks_give_what_the_whole_pass_gives(
    elements: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_gravity, "BLOCK_ELEMENTS", elements)
    position, mass = system(23, dim, systems=2)
    whole, blocked = pairwise(position, mass, 0.1), blocked_pairwise(position, mass, 0.1)
    torch.testing.assert_close(blocked[0], whole.acceleration, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(blocked[1], whole.potential_energy, rtol=1e-13, atol=0)


@pytest.mark.parametrize("softening", [0.0, 0.2])
def test_gradients_are_those_of_finite_differences(softening: float) -> None:
    position, mass = system(6)
    inputs = (position.requires_grad_(), mass.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, m: blocked_pairwise(x, m, softening), inputs)


def test_many_particles_go_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    position, mass = system(BLOCKED_BEYOND + 1)
    found = pairwise(position, mass, 0.01)
    monkeypatch.setattr("nbody.gravity.force.BLOCKED_BEYOND", 10**6)
    expected = pairwise(position, mass, 0.01)
    torch.testing.assert_close(found.acceleration, expected.acceleration, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [LISTED_UP_TO, LISTED_UP_TO + 1])
def test_listed_pairs_and_the_full_matrix_agree(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    position, mass = system(n, systems=3)
    found = pairwise(position, mass, 0.05)
    from nbody.gravity.edges import edges_of

    edges_of.cache_clear()
    monkeypatch.setattr(
        "nbody.gravity.edges.LISTED_UP_TO", 2 * LISTED_UP_TO - n + 1
    )  # the other form
    try:
        expected = pairwise(position, mass, 0.05)
    finally:
        edges_of.cache_clear()
    torch.testing.assert_close(found.acceleration, expected.acceleration, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.potential_energy, expected.potential_energy)
