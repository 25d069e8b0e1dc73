"""Features and criteria of many bodies go through their pairs in blocks: the same numbers, without
N² memory."""

import pytest
import torch

from nbody.features.of_states import features_of_states
from nbody.gravity.free_fall import free_fall_time
from nbody.integrators.states import Gate, States
from nbody.simulation.criteria import CRITERIA

KINDS = ("error_series", "dimensionless")


def systems(count: int, n: int, softening: float = 0.0, gate: Gate = "energy") -> States:
    generator = torch.Generator().manual_seed(count + n)
    position, velocity = (
        torch.randn(count, n, 3, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    mass = torch.rand(count, n, generator=generator, dtype=torch.float64)
    threshold = torch.full((count,), 2e-4, dtype=torch.float64)
    return States.at(position, velocity, mass, softening, None, threshold, gate)


@pytest.mark.parametrize("pairs", [40, 100])  # some rows of a system at once
@pytest.mark.parametrize("softening", [0.0, 0.1])
def test_rows_in_blocks_give_what_the_whole_matrix_gives(
    pairs: int, softening: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = systems(2, 23, softening)

    def numbers() -> list[torch.Tensor]:
        free_fall = free_fall_time(states.position, states.mass, softening)
        features = (features_of_states(states, kind, 2e-4) for kind in KINDS)
        criteria = (criterion(states) for criterion in CRITERIA.values())
        return [*features, states.path(), free_fall, *criteria]

    whole = numbers()
    monkeypatch.setattr("nbody.gravity.edges.PAIRS_AT_ONCE", pairs)
    for expected, found in zip(whole, numbers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gate", ["energy", "each"])
def test_systems_in_parts_give_what_all_at_once_give(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = systems(7, 6, gate=gate)
    assert states.threshold is not None
    limits = states.threshold * torch.arange(1, 8)
    for threshold in (2e-4, limits, torch.tensor(2e-4, dtype=torch.float64)):
        monkeypatch.setattr("nbody.features.of_states.FEATURED_PAIRS", 2**16)
        whole = features_of_states(states, "error_series", threshold)
        monkeypatch.setattr("nbody.features.of_states.FEATURED_PAIRS", 80)  # two systems
        parts = features_of_states(states, "error_series", threshold)
        torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-11)


def test_no_matrix_of_all_pairs_is_ever_there() -> None:
    """Of 1500 bodies: nothing that is made has as many numbers as there are pairs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    most = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            nonlocal most
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                most = max(most, made.numel())
            return made

    states = systems(1, 1500)
    with Sizes():
        features_of_states(states, "error_series", 2e-4)
        free_fall_time(states.position, states.mass, 0.0)
    assert most < 1500**2
