"""Forces, energies and momenta, against REBOUND, a double loop, and the symmetries of physics."""

import math

import numpy as np
import pytest
import rebound
import torch
from torch import Tensor

from nbody.config import Config
from nbody.errors import InvalidInitialConditions
from nbody.gravity.external_field import PointMassTidalField, field_from_config
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import (
    angular_momentum,
    centre_of_mass,
    energies,
    momentum,
    relative_energy_error,
)
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.force_series import acceleration_series
from nbody.integrators.states import States

State = tuple[Tensor, Tensor, Tensor]


def random_state(n: int, dim: int = 3, seed: int = 0) -> State:
    """Position, velocity (N, D) and unequal masses (N,) of a system off centre and moving."""
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, n, dim, generator=generator, dtype=torch.float64)
    mass = 0.2 + torch.rand(n, generator=generator, dtype=torch.float64)
    return position + 0.7, velocity - 0.4, mass


def double_loop(
    position: Tensor, mass: Tensor, softening: float = 0.0, G: float = 1.0
) -> tuple[np.ndarray, float]:
    """Accelerations (N, D) and potential energy by a plain loop over pairs."""
    x, m = position.numpy(), mass.numpy()
    acceleration, potential = np.zeros_like(x), 0.0
    for i in range(len(m)):
        for j in range(len(m)):
            if i == j:
                continue
            d = x[j] - x[i]
            r = math.sqrt(float(d @ d) + softening**2)
            acceleration[i] += G * m[j] * d / r**3
            potential -= 0.5 * G * m[i] * m[j] / r
    return acceleration, potential


def rotation(dim: int = 3, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    q[:, 0] *= torch.sign(torch.linalg.det(q))
    return q


@pytest.mark.parametrize("softening", [0.0, 0.25])
@pytest.mark.parametrize("dim", [2, 3])
def test_force_and_potential_are_those_of_a_double_loop(dim: int, softening: float) -> None:
    position, _, mass = random_state(7, dim)
    acceleration, potential = double_loop(position, mass, softening, G=1.7)

    pairs = pairwise(position, mass, softening, G=1.7)

    np.testing.assert_allclose(pairs.acceleration.numpy(), acceleration, rtol=1e-12)
    assert float(pairs.potential_energy) == pytest.approx(potential, rel=1e-13)


@pytest.mark.parametrize("softening", [0.0, 0.25])
def test_the_force_is_that_of_rebound(softening: float) -> None:
    position, velocity, mass = random_state(6)
    sim = rebound.Simulation()
    sim.softening = softening
    for m, x, v in zip(mass.tolist(), position.tolist(), velocity.tolist(), strict=True):
        sim.add(m=m, x=x[0], y=x[1], z=x[2], vx=v[0], vy=v[1], vz=v[2])
    sim.integrator = "leapfrog"
    sim.dt = 1e-13
    sim.steps(1)

    expected = [[p.ax, p.ay, p.az] for p in sim.particles]
    np.testing.assert_allclose(
        pairwise(position, mass, softening).acceleration.numpy(), expected, rtol=1e-10
    )


def test_energy_and_momenta_are_those_of_rebound_in_the_centre_of_mass_frame() -> None:
    position, velocity, mass = random_state(6)
    velocity = velocity - centre_of_mass(velocity, mass)
    sim = rebound.Simulation()
    for m, x, v in zip(mass.tolist(), position.tolist(), velocity.tolist(), strict=True):
        sim.add(m=m, x=x[0], y=x[1], z=x[2], vx=v[0], vy=v[1], vz=v[2])

    total = energies(position, velocity, mass).total

    assert float(total) == pytest.approx(sim.energy(), rel=1e-12)
    spin = angular_momentum(position, velocity, mass)
    np.testing.assert_allclose(spin.numpy(), sim.angular_momentum(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(momentum(velocity, mass).numpy(), 0.0, atol=1e-14)


def test_the_angular_momentum_of_a_planar_system_is_along_z() -> None:
    position = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    velocity = torch.tensor([[0.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    mass = torch.tensor([5.0, 1.0], dtype=torch.float64)
    assert angular_momentum(position, velocity, mass).tolist() == [0.0, 0.0, 30.0]


@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_the_force_is_minus_the_gradient_of_the_potential(softening: float) -> None:
    position, _, mass = random_state(5)
    position.requires_grad_(True)
    pairs = pairwise(position, mass, softening)

    (gradient,) = torch.autograd.grad(pairs.potential_energy, position)

    torch.testing.assert_close(
        mass[:, None] * pairs.acceleration, -gradient, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_every_action_has_its_reaction(softening: float) -> None:
    position, _, mass = random_state(9)
    force = mass[:, None] * pairwise(position, mass, softening).acceleration
    size = force.norm(dim=-1).sum()
    assert float(force.sum(0).norm()) < 1e-14 * float(size)


def test_particles_may_be_renumbered() -> None:
    position, velocity, mass = random_state(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    pairs, renumbered = pairwise(position, mass), pairwise(position[order], mass[order])
    torch.testing.assert_close(
        renumbered.acceleration, pairs.acceleration[order], rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        energies(position[order], velocity[order], mass[order]).total,
        energies(position, velocity, mass).total,
    )


def test_the_force_turns_with_the_system_and_the_energy_does_not() -> None:
    position, velocity, mass = random_state(6)
    turn = rotation()
    pairs, turned = pairwise(position, mass), pairwise(position @ turn.T, mass)
    torch.testing.assert_close(
        turned.acceleration, pairs.acceleration @ turn.T, rtol=1e-11, atol=1e-12
    )
    torch.testing.assert_close(
        energies(position @ turn.T, velocity @ turn.T, mass).total,
        energies(position, velocity, mass).total,
    )


def test_a_shift_changes_neither_force_nor_energy() -> None:
    position, velocity, mass = random_state(6)
    shift = torch.tensor([3.0, -8.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        pairwise(position + shift, mass).acceleration, pairwise(position, mass).acceleration
    )
    torch.testing.assert_close(
        energies(position + shift, velocity, mass).total, energies(position, velocity, mass).total
    )


def test_a_boost_does_not_change_the_energy_error() -> None:
    position, velocity, mass = random_state(3)
    boost = torch.tensor([40.0, -20.0, 10.0], dtype=torch.float64)
    dt = torch.tensor(0.05, dtype=torch.float64)

    errors = []
    for frame in (velocity, velocity + boost):
        states = States.at(position, frame, mass)
        errors.append(float(relative_energy_error(states.energy, states.step(dt).energy)))

    assert errors[0] > 1e-6
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)


def test_coincident_particles_give_finite_forces_energies_and_gradients() -> None:
    position = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    position.requires_grad_(True)
    mass = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    for dtype in (torch.float64, torch.float32):
        pairs = pairwise(position.to(dtype), mass.to(dtype))
        assert torch.isfinite(pairs.acceleration).all()
        assert torch.isfinite(pairs.potential_energy)
        (gradient,) = torch.autograd.grad(pairs.acceleration.sum(), position)
        assert torch.isfinite(gradient).all()


def test_coincident_particles_do_not_disturb_the_force_of_the_others() -> None:
    position = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    mass = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    acceleration = pairwise(position, mass).acceleration
    assert acceleration[2].tolist() == pytest.approx([3.0, 0.0])
    assert acceleration[0].tolist() == pytest.approx([-3.0, 0.0])


def test_the_systems_of_a_batch_do_not_feel_each_other() -> None:
    position, _, mass = random_state(4)
    other, _, other_mass = random_state(4, seed=1)
    batch = pairwise(torch.stack([position, other]), torch.stack([mass, other_mass]), 0.1)
    for row, alone in enumerate((pairwise(position, mass, 0.1), pairwise(other, other_mass, 0.1))):
        torch.testing.assert_close(batch.acceleration[row], alone.acceleration)
        torch.testing.assert_close(batch.potential_energy[row], alone.potential_energy)


def test_the_relative_energy_error_is_measured_by_the_energy_before() -> None:
    before, after = torch.tensor([-2.0, 4.0]), torch.tensor([-1.0, 5.0])
    assert relative_energy_error(before, after).tolist() == [0.5, 0.25]


FIELD = PointMassTidalField(mass=4.0, position=(3.0, 1.0))


def test_the_tidal_acceleration_is_minus_the_gradient_of_its_potential() -> None:
    position = random_state(5, dim=2)[0].requires_grad_(True)
    potential = FIELD.potential(position, G=1.3)
    (gradient,) = torch.autograd.grad(potential.sum(), position)
    torch.testing.assert_close(
        FIELD.acceleration(position, G=1.3), -gradient, rtol=1e-11, atol=1e-12
    )


def test_the_tidal_field_is_the_pull_at_the_particle_less_the_pull_at_the_origin() -> None:
    perturber = np.array([3.0, 1.0])
    x = np.array([0.4, -0.2])

    def pull(where: np.ndarray) -> np.ndarray:
        d = perturber - where
        return 4.0 * d / np.linalg.norm(d) ** 3

    found = FIELD.acceleration(torch.tensor(x)[None])[0].numpy()
    np.testing.assert_allclose(found, pull(x) - pull(np.zeros(2)), rtol=1e-13)
    origin = torch.zeros(1, 2, dtype=torch.float64)
    assert FIELD.acceleration(origin).abs().max() == 0
    assert FIELD.potential(origin).abs().max() == 0


def test_a_field_adds_to_the_force_and_to_the_energy() -> None:
    position, velocity, mass = random_state(4, dim=2)
    bare, with_field = pairwise(position, mass), pairwise(position, mass, field=FIELD)
    torch.testing.assert_close(
        with_field.acceleration, bare.acceleration + FIELD.acceleration(position)
    )
    found = energies(position, velocity, mass, field=FIELD)
    expected = bare.potential_energy + (mass * FIELD.potential(position)).sum()
    torch.testing.assert_close(found.potential, expected)
    at_rest_with_the_field = 0.5 * (mass * velocity.square().sum(-1)).sum()
    torch.testing.assert_close(found.kinetic, at_rest_with_the_field)


def drift(field: PointMassTidalField | None, measured_in: PointMassTidalField | None) -> float:
    """Relative energy change over a run in `field`, of the energy that counts `measured_in`."""
    position = torch.tensor([[0.5, 0.1], [-0.5, 0.1]], dtype=torch.float64)
    velocity = torch.tensor([[0.1, 0.7], [0.1, -0.7]], dtype=torch.float64)
    mass = torch.ones(2, dtype=torch.float64)

    def measure() -> Tensor:
        return energies(position, velocity, mass, field=measured_in).total

    start, states = measure(), States.at(position, velocity, mass, field=field)
    dt = torch.tensor(2e-3, dtype=torch.float64)
    for _ in range(600):
        states = states.after(states.step(dt))
    position, velocity = states.position, states.velocity
    return float(relative_energy_error(start, measure()))


@pytest.mark.slow
def test_energy_is_conserved_in_a_field_only_if_the_field_is_counted() -> None:
    assert drift(FIELD, FIELD) < 1e-5
    assert drift(FIELD, None) > 1e-2


def test_several_perturbers_add_up() -> None:
    masses, places = [4.0, 2.0], [[3.0, 1.0], [-5.0, 2.0]]
    config = Config(external_field_mass=masses, external_field_position=places)
    both = field_from_config(config)
    assert both is not None
    position = torch.randn(3, 4, 2, dtype=torch.float64)
    alone = [PointMassTidalField(m, tuple(place)) for m, place in zip(masses, places, strict=True)]
    torch.testing.assert_close(
        both.acceleration(position), sum(one.acceleration(position) for one in alone)
    )
    torch.testing.assert_close(
        both.potential(position), sum(one.potential(position) for one in alone)
    )
    path = [position[0], torch.randn(4, 2, dtype=torch.float64)]
    mass = torch.ones(4, dtype=torch.float64)
    series = [acceleration_series(path, mass, 0.1, field, 3) for field in (both, *alone, None)]
    torch.testing.assert_close(series[0], series[1] + series[2] - series[3])
    with pytest.raises(ValueError, match="as many positions"):
        Config(external_field_mass=[1.0, 2.0], external_field_position=[[3.0, 1.0]])


def test_a_perturber_that_has_no_tide_is_refused() -> None:
    with pytest.raises(ValueError, match="at the origin"):
        Config(external_field_mass=1.0, external_field_position=[0.0, 0.0])
    rows = [[1.0, -1.0, 0.0, 0.0, -0.5], [1.0, 1.0, 0.0, 0.0, 0.5]]
    with pytest.raises(ValueError, match="particle 1 is at that place"):
        Config(
            initial_conditions="inline",
            particles=rows,
            external_field_mass=1.0,
            external_field_position=[1.0, 0.0],
        )
    figure = Config(initial_conditions="figure_eight", device="cpu")
    place = initial_particle(figure).position[0].tolist()
    config = Config(
        initial_conditions="figure_eight",
        external_field_mass=1.0,
        external_field_position=place,
        device="cpu",
    )
    with pytest.raises(InvalidInitialConditions, match="at the place"):
        initial_particle(config)
