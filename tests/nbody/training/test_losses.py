"""What is minimized: by hand, by its minimum, and with gradients that stay finite."""

import math

import pytest
import torch
from torch import Tensor

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.training.losses import band_loss, energy_losses, pinball_loss, shrink_loss
from nbody.trajectory_collection import compute_single_step_loss

LOWER, UPPER = 1e-6, 1e-4


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_band_loss_is_zero_in_the_band_and_a_squared_log_distance_outside() -> None:
    errors = column(1e-6, 1e-5, 1e-4, 1e-2, 1e-9)
    expected = column(0, 0, 0, math.log(100) ** 2, math.log(1000) ** 2)
    torch.testing.assert_close(band_loss(errors, LOWER, UPPER), expected, rtol=1e-9, atol=1e-12)


def test_the_band_loss_pushes_small_errors_up_and_large_errors_down() -> None:
    errors = column(1e-8, 1e-5, 1e-2).requires_grad_(True)
    band_loss(errors, LOWER, UPPER).sum().backward()
    assert errors.grad is not None
    assert [math.copysign(1, g) if g else 0 for g in errors.grad.tolist()] == [-1, 0, 1]


def test_an_error_of_exactly_zero_has_a_finite_band_loss() -> None:
    errors = column(0.0).requires_grad_(True)
    loss = band_loss(errors, LOWER, UPPER)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(errors.grad).all()
    assert float(loss.detach()) > float(band_loss(column(1e-12), LOWER, UPPER))


def test_the_pinball_loss_has_the_values_of_koenker_and_bassett() -> None:
    star = column(1.0, 1.0, 1.0)
    dt = column(math.e, 1 / math.e, 1.0)
    torch.testing.assert_close(pinball_loss(dt, star, 0.1), column(0.9, 0.1, 0.0))


@pytest.mark.parametrize("quantile", [0.05, 0.3])
def test_the_minimum_of_the_pinball_loss_lets_the_quantile_exceed_the_oracle(
    quantile: float,
) -> None:
    generator = torch.Generator().manual_seed(0)
    star = torch.randn(4001, generator=generator, dtype=torch.float64).exp()
    trials = torch.linspace(-4, 4, 2001, dtype=torch.float64).exp()
    each = (pinball_loss(dt.expand(len(star)), star, quantile) for dt in trials)
    loss = torch.stack([one.mean() for one in each])
    best = trials[loss.argmin()]
    assert float((best > star).double().mean()) == pytest.approx(quantile, abs=0.005)


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_pinball_loss_does_not_depend_on_the_unit_of_time(factor: float) -> None:
    dt, star = column(0.1, 0.4), column(0.2, 0.2)
    torch.testing.assert_close(
        pinball_loss(factor * dt, factor * star, 0.1), pinball_loss(dt, star, 0.1)
    )


def test_the_shrinking_loss_has_unit_slope_in_ln_dt_at_every_step() -> None:
    log_dt = column(-20.0, 0.0, 20.0).requires_grad_(True)
    shrink_loss(log_dt.exp()).sum().backward()
    torch.testing.assert_close(log_dt.grad, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("loss", ["band", "band_failing"])
def test_steps_of_any_size_have_finite_losses_and_gradients(loss: str) -> None:
    config = Config(initial_conditions="kepler", loss=loss)
    states = initial_particle(config).batched().states().take(torch.zeros(9, dtype=torch.long))
    log_dt = torch.linspace(-30, 690, 9, dtype=torch.float64).requires_grad_(True)
    losses = energy_losses(states, log_dt.exp(), config)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(log_dt.grad).all()
    assert float(log_dt.grad[-1]) > 0  # gradient descent makes it smaller


BEFORE = column(-0.5, -0.5, -0.5, -0.5, 0.0)
AFTER = column(-0.5001, -0.6, math.inf, math.nan, 1.0)


@pytest.mark.parametrize("loss", ["band", "band_failing", "oracle"])
def test_energies_that_are_not_finite_give_a_finite_loss_and_gradient(loss: str) -> None:
    after = AFTER.clone().requires_grad_(True)
    value = compute_single_step_loss(BEFORE, after, Config(loss=loss))
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(after.grad).all()
    assert float(after.grad[1].abs()) > 0


def test_a_band_that_reaches_up_to_the_gate_is_moved_under_it() -> None:
    gates = column(1e-6, 1e-4, 2e-4)
    loss = band_loss(column(9e-7, 9e-5, 9e-5), LOWER, UPPER, gates)
    assert (loss[:2] > 0).all()  # near the gate: to be made smaller
    assert float(loss[2]) == 0
    inside = band_loss(column(4e-7, 4e-5, 4e-5), LOWER, UPPER, gates)
    assert inside.tolist() == [0, 0, 0]
    assert float(band_loss(column(4e-7), LOWER, UPPER, 1e-6)) == 0
