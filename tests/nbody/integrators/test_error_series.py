"""The series of a step's energy error, against the steps themselves."""

import math

import pytest
import torch
from torch import Tensor

from nbody.config import Config
from nbody.features.error_columns import error_series_features
from nbody.gravity.external_field import PointMassTidalField
from nbody.gravity.force import pairwise
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.error_crossing import crossing_of
from nbody.integrators.error_series import FIRST_ORDER, error_series
from nbody.integrators.force_series import acceleration_series
from nbody.integrators.oracle import first_crossing
from nbody.integrators.states import States
from nbody.particle import ParticleTorch


def random_states(n: int, systems: int = 5, softening: float = 0.0, field: bool = False) -> States:
    generator = torch.Generator().manual_seed(n)
    position, velocity = torch.randn(2, systems, n, 3, generator=generator, dtype=torch.float64)
    mass = 0.2 + torch.rand(systems, n, generator=generator, dtype=torch.float64)
    particle = ParticleTorch(mass, position, 0.7 * velocity, softening=softening)
    if field:
        particle.external_field = PointMassTidalField(2.0, (4.0, -3.0, 1.0))
    return particle.states()


def series_of(states: States, unit: float, last_order: int = 6) -> Tensor:
    return error_series(states, torch.full_like(states.energy, unit), last_order)


@pytest.mark.parametrize("field", [False, True])
@pytest.mark.parametrize("softening", [0.0, 0.3])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_series_is_that_of_a_real_step(n: int, softening: float, field: bool) -> None:
    """What is left over shrinks with the seventh power of the step."""
    states = random_states(n, softening=softening, field=field)
    left: list[Tensor] = []
    for h in (0.02, 0.01):
        real = states.step(torch.full_like(states.energy, h)).energy - states.energy
        predicted = series_of(states, h).sum(-1)
        left.append((real - predicted).abs())
        assert float((left[-1] / real.abs()).max()) < 0.1
    floor = 1e-14 * states.energy.abs()
    assert bool((left[1] <= left[0] / 2**6 + floor).all())


def test_higher_orders_do_not_change_the_lower_ones() -> None:
    states = random_states(3)
    torch.testing.assert_close(series_of(states, 0.1, 9)[:, :4], series_of(states, 0.1))


def test_under_time_reversal_odd_coefficients_change_sign() -> None:
    states = random_states(4)
    particle = ParticleTorch.of_states(states)
    particle.velocity = -particle.velocity
    signs = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    there, back = series_of(states, 0.1), series_of(particle.states(), 0.1)
    torch.testing.assert_close(back, signs * there, rtol=1e-9, atol=1e-14)


def test_the_acceleration_series_is_the_force_along_the_path() -> None:
    """What four terms leave over shrinks with the fourth power of the time."""
    states = random_states(3)
    path = [states.position, states.velocity, states.acceleration / 2]
    found = acceleration_series(path, states.mass, 0.0, None, 3)
    left: list[Tensor] = []
    for h in (0.02, 0.01):
        there = pairwise(path[0] + path[1] * h + path[2] * h**2, states.mass).acceleration
        predicted = sum(term * h**k for k, term in enumerate(found))
        left.append((there - predicted).norm(dim=(-1, -2)))
    assert bool((left[1] < left[0] / 12).all())
    assert bool((left[1] > left[0] / 20).all())


def test_a_single_term_crosses_where_it_must() -> None:
    for k in range(4):
        coefficients = torch.zeros(4, dtype=torch.float64)
        coefficients[k] = -3.0
        threshold = torch.tensor(2e-4, dtype=torch.float64)
        found = float(crossing_of(coefficients, threshold).log_step)
        assert found == pytest.approx(math.log(2e-4 / 3) / (FIRST_ORDER + k), abs=1e-7)


def test_the_crossing_is_the_first_one() -> None:
    generator = torch.Generator().manual_seed(3)
    coefficients = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    threshold = torch.full((400,), 0.3, dtype=torch.float64)
    found = crossing_of(coefficients, threshold)
    assert bool(found.features.isfinite().all())
    step = found.log_step.exp()
    orders = torch.arange(3, 7, dtype=torch.float64)

    def error(x: Tensor) -> Tensor:
        return (coefficients.unsqueeze(1) * x.unsqueeze(-1) ** orders).sum(-1).abs()

    torch.testing.assert_close(error(step.unsqueeze(1))[:, 0], threshold, rtol=1e-5, atol=0)
    before = step.unsqueeze(1) * torch.linspace(0, 1 - 1e-5, 2000, dtype=torch.float64)
    assert bool((error(before) < 0.3 * (1 + 1e-9)).all())


def test_humps_near_the_threshold_are_told() -> None:
    """x³ - x⁴ has its hump at 3/4, of height 27/256."""
    coefficients = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    heights = []
    for threshold in (27 / 256 * 0.999, 27 / 256 * 1.001):
        found = crossing_of(coefficients, torch.tensor(threshold, dtype=torch.float64))
        heights.append((float(found.log_step.exp()), found.features))
    (below, grazed), (above, missed) = heights
    assert below < 0.75 < 1.0 < above
    assert (
        float(grazed[9]) > 0.85 > 0.5 > float(grazed[7])
    )  # nearness of the hump after, and before
    assert float(missed[7]) > 0.85
    assert float(missed[6]) == pytest.approx(1 / 1.001, rel=1e-4)  # its height


@pytest.mark.parametrize("threshold", [1e-6, 1e-4])
def test_the_series_crossing_is_close_to_the_oracle(threshold: float) -> None:
    config = Config(num_orbits=200, device="cpu")
    states = initial_particle(config, seed=2).states()
    found = error_series_features(states, threshold)[:, -1].exp()
    ratio = found / first_crossing(states, threshold)
    assert float((ratio - 1).abs().quantile(0.9)) < 0.01


def test_features_are_finite_for_singular_states() -> None:
    zeros = torch.zeros(2, 3, 3, dtype=torch.float64)
    states = ParticleTorch(1.0, zeros, zeros).states()
    particle = ParticleTorch(1.0, zeros, zeros + 1.0)
    from nbody.model_adapter import ModelAdapter

    adapter = ModelAdapter(Config(device="cpu"))
    assert bool(adapter.build_feature_tensor(particle).isfinite().all())
    assert states.position.shape == (2, 3, 3)
