"""ParticleTorch and how it is made."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nbody.gravity.external_field import PointMassTidalField
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import energies
from nbody.particle import ParticleTorch, make_particle, stack_particles

ROWS = [[1.0, 0.5, 0.1, 0.2, 0.6], [2.0, -0.5, 0.3, -0.1, -0.3], [0.5, 0.0, -1.2, 0.9, 0.0]]


def tensors(*leading: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, position and velocity of random systems of 3 particles in space."""
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, *leading, 3, 3, generator=generator, dtype=torch.float64)
    return (
        0.5 + torch.rand(*leading, 3, generator=generator, dtype=torch.float64),
        position,
        velocity,
    )


def fields(particle: ParticleTorch) -> list[Tensor]:
    own = (particle.position, particle.velocity, particle.mass, particle.dt, particle.current_time)
    return [torch.as_tensor(value) for value in own]


def test_rows_are_mass_position_velocity() -> None:
    particle = make_particle(ROWS)
    assert particle.mass.tolist() == [1.0, 2.0, 0.5]
    assert particle.position.tolist() == [[0.5, 0.1], [-0.5, 0.3], [0.0, -1.2]]
    assert particle.velocity.tolist() == [[0.2, 0.6], [-0.1, -0.3], [0.9, 0.0]]
    assert particle.position.dtype == torch.float64
    assert not particle.is_batch


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_rows_may_be_arrays_or_tensors_of_any_type_and_dimension(convert: object) -> None:
    rows = [[1.0, 0, 0, 1, 0, 1, 0], [1.0, 0, 0, -1, 0, -1, 0]]
    particle = make_particle(convert(rows), "cpu", torch.float32)
    assert particle.position.shape == (2, 3)
    assert particle.velocity[0].tolist() == [0, 1, 0]
    assert particle.position.dtype == particle.mass.dtype == torch.float32


def test_a_batch_of_rows_is_a_batch_of_systems() -> None:
    particle = make_particle(torch.tensor([ROWS, ROWS, ROWS]), dtype=torch.float64)
    assert particle.is_batch
    assert particle.position.shape == (3, 3, 2)
    assert particle.mass.shape == (3, 3)
    assert particle.total_energy_batch().shape == (3,)


def test_a_particle_keeps_what_it_is_given() -> None:
    mass, position, velocity = tensors()
    particle = ParticleTorch.from_tensors(mass, position, velocity, dt=0.25, softening=0.1)
    assert float(particle.dt) == 0.25
    assert particle.softening == 0.1
    assert float(particle.current_time) == 0.0
    assert particle.period is None
    assert particle.external_field is None


def test_one_mass_serves_all_particles() -> None:
    _, position, velocity = tensors()
    shared = ParticleTorch.from_tensors(2.0, position, velocity)
    torch.testing.assert_close(
        shared.total_energy_batch(),
        energies(position, velocity, torch.full((3,), 2.0, dtype=torch.float64)).total,
    )


def test_the_acceleration_is_that_of_softened_gravity_with_g() -> None:
    mass, position, velocity = tensors(2)
    particle = ParticleTorch.from_tensors(mass, position, velocity, softening=0.3)
    expected = pairwise(position, mass, 0.3, G=2.5).acceleration
    torch.testing.assert_close(particle.get_acceleration(G=2.5), expected)
    torch.testing.assert_close(particle.acceleration, expected)


def test_the_energy_counts_softening_g_and_the_external_field() -> None:
    mass, position, velocity = tensors(2)
    particle = ParticleTorch.from_tensors(mass, position, velocity, softening=0.3)
    particle.external_field = PointMassTidalField(mass=3.0, position=(5.0, 0.0, 0.0))
    found = particle.total_energy_batch(G=2.5)
    expected = energies(position, velocity, mass, 0.3, particle.external_field, G=2.5).total
    torch.testing.assert_close(found, expected)
    particle.external_field = None
    assert not torch.allclose(particle.total_energy_batch(G=2.5), expected)


def test_the_energy_does_not_depend_on_the_frame() -> None:
    mass, position, velocity = tensors()
    at_rest = ParticleTorch.from_tensors(mass, position, velocity)
    moving = ParticleTorch.from_tensors(mass, position, velocity + 10.0)
    torch.testing.assert_close(at_rest.total_energy_batch(), moving.total_energy_batch())


def test_evolving_takes_one_kick_drift_kick_step_and_advances_the_time() -> None:
    mass, position, velocity = tensors(2)
    dt = torch.tensor([0.01, 0.02], dtype=torch.float64)
    particle = ParticleTorch.from_tensors(mass, position, velocity, dt=dt, softening=0.2)
    half = velocity + 0.5 * dt[:, None, None] * pairwise(position, mass, 0.2).acceleration
    drifted = position + dt[:, None, None] * half
    kicked = half + 0.5 * dt[:, None, None] * pairwise(drifted, mass, 0.2).acceleration

    particle.evolve_batch()
    torch.testing.assert_close(particle.position, drifted)
    torch.testing.assert_close(particle.velocity, kicked)
    torch.testing.assert_close(particle.current_time, dt)
    particle.update_dt(0.5)
    particle.evolve_batch()
    torch.testing.assert_close(particle.current_time, dt + 0.5)
    torch.testing.assert_close(
        particle.acceleration, pairwise(particle.position, mass, 0.2).acceleration
    )


def test_evolving_does_not_touch_the_tensors_it_was_made_from() -> None:
    mass, position, velocity = tensors()
    before = position.clone(), velocity.clone()
    particle = ParticleTorch.from_tensors(mass, position, velocity, dt=0.1)
    particle.evolve_batch()
    assert torch.equal(position, before[0])
    assert torch.equal(velocity, before[1])


def test_gradients_flow_from_the_evolved_energy_to_dt() -> None:
    mass, position, velocity = tensors()

    def energy_after(dt: Tensor) -> Tensor:
        particle = ParticleTorch.from_tensors(mass, position, velocity, softening=0.1)
        particle.update_dt(dt)
        particle.evolve_batch(G=1.2)
        return particle.total_energy_batch(G=1.2)

    dt = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy_after, (dt,))


def test_a_clone_shares_neither_memory_nor_graph() -> None:
    mass, position, velocity = tensors(2)
    particle = ParticleTorch.from_tensors(mass, position, velocity, softening=0.2)
    particle.external_field = PointMassTidalField(mass=1.0, position=(4.0, 0.0, 0.0))
    particle.period = torch.tensor([1.0, 2.0], dtype=torch.float64)
    particle.update_dt(torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True))
    particle.evolve_batch()
    assert particle.position.requires_grad

    clone = particle.clone_detached()

    for own, cloned in zip(fields(particle), fields(clone), strict=True):
        assert torch.equal(own, cloned)
        assert not cloned.requires_grad
        assert own.data_ptr() != cloned.data_ptr()
    assert torch.equal(clone.period, particle.period)
    assert clone.softening == particle.softening
    assert clone.external_field == particle.external_field
    before = particle.position.detach().clone()
    clone.evolve_batch()
    clone.position.zero_()
    assert torch.equal(particle.position, before)


def test_stacked_systems_are_the_rows_of_a_batch() -> None:
    singles = [
        ParticleTorch.from_tensors(*tensors(seed=seed), dt=0.1 * seed, softening=0.2)
        for seed in (1, 2, 3)
    ]
    batch = stack_particles(singles)
    assert batch.position.shape == (3, 3, 3)
    assert batch.softening == 0.2
    for row, single in enumerate(singles):
        again = batch.select(row)
        assert not again.is_batch
        for own, restored in zip(fields(single), fields(again), strict=True):
            torch.testing.assert_close(own, restored)
        torch.testing.assert_close(batch.total_energy_batch()[row], single.total_energy_batch())


def test_a_batch_evolves_as_its_systems_do() -> None:
    singles = [
        ParticleTorch.from_tensors(*tensors(seed=seed), dt=0.01 * seed) for seed in (1, 2, 3)
    ]
    batch = stack_particles(singles)
    batch.evolve_batch()
    for row, single in enumerate(singles):
        single.evolve_batch()
        torch.testing.assert_close(batch.position[row], single.position)
        torch.testing.assert_close(batch.current_time[row], single.current_time)
