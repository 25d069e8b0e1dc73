"""The KDK step, against a numpy leapfrog, REBOUND, the exact Kepler solution, and symmetries."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rebound
import torch
from torch import Tensor

from nbody.gravity.external_field import PointMassTidalField
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import energies
from nbody.integrators.measured_step import Step
from nbody.integrators.states import States

State = Sequence[Tensor]
Array = np.ndarray


def kepler(e: float, mean_anomaly: float) -> State:
    """Two unit masses, semi-major axis 1, by Newton's iteration on Kepler's equation."""
    anomaly = mean_anomaly if e < 0.8 else math.pi
    for _ in range(60):
        anomaly -= (anomaly - e * math.sin(anomaly) - mean_anomaly) / (1 - e * math.cos(anomaly))
    c, s, b = math.cos(anomaly), math.sin(anomaly), math.sqrt(1 - e * e)
    rate = math.sqrt(2.0) / (1 - e * c)
    x = torch.tensor([c - e, b * s], dtype=torch.float64)
    v = torch.tensor([-s * rate, b * c * rate], dtype=torch.float64)
    return torch.stack([-x / 2, x / 2]), torch.stack([-v / 2, v / 2]), torch.ones(2).double()


def three_bodies() -> State:
    position = torch.tensor([[1.0, 0.2], [-0.7, 0.5], [0.1, -0.9]], dtype=torch.float64)
    velocity = torch.tensor([[0.1, 0.6], [-0.3, -0.5], [0.5, -0.2]], dtype=torch.float64)
    return position, velocity, torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)


def advance(
    state: State, dt: float | Tensor, steps: int = 1, n_steps: int = 1, **about: Any
) -> Step:
    """`steps` calls of one KDK step each, all with the same dt."""
    states = States.at(*state, **about)
    dt = torch.as_tensor(dt, dtype=torch.float64)
    for _ in range(steps):
        step = states.step(dt, n_steps)
        states = states.after(step)
    return step


def numpy_force(x: Array, m: Array, softening: float) -> Array:
    d = x[None] - x[:, None]
    r2 = (d**2).sum(-1) + softening**2 + np.eye(len(m))
    return (m[None, :, None] * d / r2[..., None] ** 1.5).sum(1)


@pytest.mark.parametrize("softening", [0.0, 0.2])
def test_it_is_the_textbook_kick_drift_kick(softening: float) -> None:
    position, velocity, mass = three_bodies()
    x, v, m = position.numpy().copy(), velocity.numpy().copy(), mass.numpy()
    for _ in range(50):
        v = v + 0.5 * 0.02 * numpy_force(x, m, softening)
        x = x + 0.02 * v
        v = v + 0.5 * 0.02 * numpy_force(x, m, softening)

    step = advance(three_bodies(), 0.02, 50, softening=softening)

    np.testing.assert_allclose(step.position.numpy(), x, rtol=1e-11)
    np.testing.assert_allclose(step.velocity.numpy(), v, rtol=1e-11)
    np.testing.assert_allclose(step.acceleration.numpy(), numpy_force(x, m, softening), rtol=1e-10)


def test_it_is_rebounds_drift_kick_drift_seen_half_a_drift_later() -> None:
    position, velocity, mass = three_bodies()
    dt, steps = 0.02, 40
    first_kick = velocity + 0.5 * dt * pairwise(position, mass).acceleration
    start = position + 0.5 * dt * first_kick  # REBOUND's step begins in the middle of our drift
    sim = rebound.Simulation()
    for m, x, v in zip(mass.tolist(), start.tolist(), first_kick.tolist(), strict=True):
        sim.add(m=m, x=x[0], y=x[1], vx=v[0], vy=v[1])
    sim.integrator = "leapfrog"
    sim.dt = dt
    sim.steps(steps)
    sim.synchronize()

    ours = advance(three_bodies(), dt, steps)

    last_kick = ours.velocity + 0.5 * dt * ours.acceleration
    middle = ours.position + 0.5 * dt * last_kick
    np.testing.assert_allclose(middle.numpy(), [[p.x, p.y] for p in sim.particles], rtol=1e-10)
    np.testing.assert_allclose(last_kick.numpy(), [[p.vx, p.vy] for p in sim.particles], rtol=1e-10)


@pytest.mark.slow
def test_it_converges_to_the_exact_kepler_orbit_at_second_order() -> None:
    start, span = kepler(0.5, 1.0), 1.2
    exact, _, _ = kepler(0.5, 1.0 + span * math.sqrt(2.0))
    errors = [float((advance(start, span / n, n).position - exact).norm()) for n in (200, 400, 800)]

    assert errors[0] < 1e-3
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.03)


def test_the_energy_error_of_one_step_is_of_third_order() -> None:
    start = kepler(0.7, 1.0)
    errors = [float(advance(start, dt).energy_error) for dt in (0.02, 0.01, 0.005)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(3.0, abs=0.15)


def test_a_run_with_reversed_velocities_returns_to_its_start() -> None:
    position, velocity, mass = three_bodies()
    there = advance((position, velocity, mass), 0.03, 60)
    assert float((there.position - position).norm()) > 0.5
    back = advance((there.position, -there.velocity, mass), 0.03, 60)
    torch.testing.assert_close(back.position, position, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(back.velocity, -velocity, rtol=1e-10, atol=1e-10)


def test_a_negative_step_undoes_a_step() -> None:
    position, velocity, mass = three_bodies()
    there = advance((position, velocity, mass), 0.1)
    back = advance((there.position, there.velocity, mass), -0.1)
    torch.testing.assert_close(back.position, position, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_a_scaled_system_makes_the_same_relative_error_in_a_scaled_step(scale: float) -> None:
    position, velocity, mass = kepler(0.9, 0.5)
    scaled = (scale * position, scale**-0.5 * velocity, mass)
    dt = 0.04
    error = float(advance((position, velocity, mass), dt).energy_error)
    assert error > 1e-6
    assert float(advance(scaled, scale**1.5 * dt).energy_error) == pytest.approx(error, rel=1e-8)


def test_it_is_differentiable_in_dt_and_in_the_state() -> None:
    position, velocity, mass = three_bodies()
    batch = torch.stack([position, position.flip(0)])
    dt = torch.tensor([0.05, 0.08], dtype=torch.float64, requires_grad=True)

    def stepped(dt: Tensor, velocity: Tensor) -> tuple[Tensor, ...]:
        step = States.at(batch, velocity, mass.expand(2, -1), 0.1).step(dt, 2)
        return step.position, step.velocity, step.acceleration, step.energy, step.energy_error

    moving = velocity.expand(2, -1, -1).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(stepped, (dt, moving))


def test_each_system_of_a_batch_takes_its_own_step() -> None:
    position, velocity, mass = three_bodies()
    steps = torch.tensor([0.01, 0.2], dtype=torch.float64)
    batch = advance([rows.expand(2, *rows.shape) for rows in three_bodies()], steps)
    for row, dt in enumerate(steps):
        alone = advance((position, velocity, mass), dt)
        torch.testing.assert_close(batch.position[row], alone.position)
        torch.testing.assert_close(batch.energy[row], alone.energy)


def test_the_reported_energy_and_error_are_those_of_the_reported_state() -> None:
    position, velocity, mass = three_bodies()
    field = PointMassTidalField(mass=2.0, position=(4.0, 0.0))
    step = advance((position, velocity, mass), 0.1, softening=0.1, field=field)
    before = energies(position, velocity, mass, 0.1, field).total
    after = energies(step.position, step.velocity, mass, 0.1, field).total
    torch.testing.assert_close(step.energy, after)
    torch.testing.assert_close(step.energy_error, ((after - before) / before).abs())


def test_several_steps_at_once_report_the_worst_error_on_the_way() -> None:
    """An orbit is symmetric about its pericentre, so that the error after passing it is small."""
    start = kepler(0.6, -0.5)
    dt, steps = 0.2, 8
    errors, position, velocity = [], start[0], start[1]
    energy = energies(*start).total
    for _ in range(steps):
        one = advance((position, velocity, start[2]), dt)
        position, velocity = one.position, one.velocity
        errors.append(float(((one.energy - energy) / energy).abs()))

    together = advance(start, dt, n_steps=steps)

    torch.testing.assert_close(together.position, position)
    assert max(errors) > 1.5 * errors[-1]
    assert float(together.energy_error) >= 0.999 * max(errors)
