"""Named systems have the properties that the literature gives them; draws are reproducible."""

import math

import numpy as np
import pytest
import rebound
import torch
from torch import Tensor

from nbody.config import Config
from nbody.errors import InvalidInitialConditions
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import angular_momentum, kinetic_energy
from nbody.initial_conditions.conics import anomaly_of
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.plummer import plummer_spheres
from nbody.integrators.states import States
from nbody.particle import ParticleTorch

POPULATIONS = [
    Config(initial_conditions="kepler_ensemble", num_orbits=5),
    Config(initial_conditions="random", num_particles=5),
    Config(initial_conditions="plummer", num_particles=16, dim=3),
]
EVERY_SYSTEM = [
    *POPULATIONS,
    *(
        Config(initial_conditions=name)
        for name in ("kepler", "figure_eight", "pythagorean", "lagrange_triangle")
    ),
    Config(
        initial_conditions="inline",
        particles=[[1.0, 3.0, 1.0, 0.5, 2.0], [3.0, 1.0, 0.0, 1.0, 0.5]],
    ),
]


def named(name: str, **fields: object) -> ParticleTorch:
    return initial_particle(Config.model_validate({"initial_conditions": name, **fields}), seed=1)


def in_rebound(particle: ParticleTorch) -> rebound.Simulation:
    sim = rebound.Simulation()
    for m, x, v in zip(
        particle.mass.tolist(), particle.position.tolist(), particle.velocity.tolist(), strict=True
    ):
        x, v = [*x, 0.0][:3], [*v, 0.0][:3]
        sim.add(m=m, x=x[0], y=x[1], z=x[2], vx=v[0], vy=v[1], vz=v[2])
    return sim


def relative_orbit(particle: ParticleTorch) -> tuple[Tensor, Tensor]:
    """Eccentricity and semi-major axis (B,) of two-body systems, from the vis-viva equation."""
    x = particle.position[..., 1, :] - particle.position[..., 0, :]
    v = particle.velocity[..., 1, :] - particle.velocity[..., 0, :]
    mu = particle.mass.sum(-1)
    r = x.norm(dim=-1)
    semi_major = 1 / (2 / r - v.square().sum(-1) / mu)
    spin = x[..., 0] * v[..., 1] - x[..., 1] * v[..., 0]
    return (1 - spin**2 / (mu * semi_major)).clamp(min=0).sqrt(), semi_major


@pytest.mark.parametrize("config", EVERY_SYSTEM, ids=lambda c: c.initial_conditions)
def test_the_centre_of_mass_is_at_rest_at_the_origin(config: Config) -> None:
    particle = initial_particle(config, seed=3)
    for vector in (particle.position, particle.velocity):
        mean = (particle.mass[..., None] * vector).sum(-2)
        assert float(mean.abs().max()) < 1e-14 * float(1 + vector.abs().max())


def test_the_kepler_orbit_has_the_period_and_energy_of_the_textbook() -> None:
    particle = named("kepler")
    assert particle.mass.tolist() == [1.0, 1.0]
    assert float(particle.period) == pytest.approx(4.442883, abs=1e-6)
    assert float(particle.total_energy_batch()) == pytest.approx(-0.5, abs=1e-14)
    eccentricity, semi_major = relative_orbit(particle)
    assert float(eccentricity) == pytest.approx(0.9)
    assert float(semi_major) == pytest.approx(1.0)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_kepler_orbit_returns_after_its_period(dim: int) -> None:
    particle = named("kepler", eccentricity=0.7, semi_major=1.5, mass=2.0, dim=dim)
    eccentricity, semi_major = relative_orbit(particle)
    assert float(eccentricity) == pytest.approx(0.7)
    assert float(semi_major) == pytest.approx(1.5)
    sim = in_rebound(particle)
    sim.integrate(float(particle.period))
    reached = torch.tensor([[p.x, p.y, p.z][:dim] for p in sim.particles], dtype=torch.float64)
    torch.testing.assert_close(reached, particle.position, rtol=0, atol=1e-9)


def test_keplers_equation_is_solved_up_to_the_most_eccentric_orbits() -> None:
    anomaly = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for e in (0.0, 0.6, 0.95, 0.99999):
        solved = anomaly_of(anomaly, torch.full_like(anomaly, e))
        torch.testing.assert_close(solved - e * solved.sin(), anomaly, rtol=0, atol=1e-12)


def test_an_ensemble_is_uniform_in_eccentricity_semi_major_axis_and_phase() -> None:
    number = 4000
    particle = named("kepler_ensemble", num_orbits=number)
    eccentricity, semi_major = relative_orbit(particle)
    mean_error = 1 / math.sqrt(12 * number)

    for drawn, low, high in ((eccentricity, 0.6, 0.95), (semi_major, 0.8, 1.2)):
        unit = (drawn - low) / (high - low)
        assert float(unit.min()) >= -1e-9
        assert float(unit.max()) <= 1 + 1e-9
        assert float(unit.mean()) == pytest.approx(0.5, abs=5 * mean_error)
        assert float(unit.std()) == pytest.approx(1 / math.sqrt(12), abs=0.01)
    torch.testing.assert_close(
        particle.period, 2 * math.pi * (semi_major**3 / 2).sqrt(), rtol=1e-8, atol=0
    )
    x = particle.position[:, 1] - particle.position[:, 0]
    v = particle.velocity[:, 1] - particle.velocity[:, 0]
    inbound = ((x * v).sum(-1) < 0).double().mean()
    assert float(inbound) == pytest.approx(0.5, abs=0.04)
    beyond = (x.norm(dim=-1) > semi_major).double().mean()  # M > pi/2 - e on either side
    expected = (0.5 + eccentricity / math.pi).mean()
    assert float(beyond) == pytest.approx(float(expected), abs=0.04)


def test_the_figure_eight_is_the_one_of_chenciner_and_montgomery() -> None:
    particle = named("figure_eight")
    position = torch.tensor([[0.97000436, -0.24308753], [-0.97000436, 0.24308753], [0.0, 0.0]])
    third = torch.tensor([-0.93240737, -0.86473146])
    velocity = torch.stack([-third / 2, -third / 2, third])
    torch.testing.assert_close(particle.position, position.double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(particle.velocity, velocity.double(), rtol=0, atol=1e-7)
    assert float(particle.total_energy_batch()) == pytest.approx(-1.28714199, abs=1e-8)
    spin = angular_momentum(particle.position, particle.velocity, particle.mass)
    assert float(spin.abs().max()) < 1e-8
    assert float(particle.period) == pytest.approx(6.32591398, abs=1e-8)


@pytest.mark.slow
def test_the_figure_eight_returns_under_a_sixth_order_composition_of_our_steps() -> None:
    """Yoshida (1990), solution A, with KDK as the basic symmetric step."""
    weights = [0.784513610477560, 0.235573213359357, -1.17767998417887]
    weights = [*weights, 1 - 2 * sum(weights), *reversed(weights)]
    particle = named("figure_eight")
    states = States.at(particle.position, particle.velocity, particle.mass)
    steps = 300
    for dt in [w * particle.period / steps for w in weights] * steps:
        states = states.after(states.step(dt))

    assert float((states.position - particle.position).abs().max()) < 4e-8
    assert float((states.velocity - particle.velocity).abs().max()) < 2e-7


def test_the_pythagorean_problem_is_burraus() -> None:
    particle = named("pythagorean")
    assert particle.mass.tolist() == [3.0, 4.0, 5.0]
    assert particle.position.tolist() == [[1.0, 3.0], [-2.0, -1.0], [1.0, -1.0]]
    assert particle.velocity.abs().max() == 0
    assert float(particle.total_energy_batch()) == pytest.approx(-769 / 60, rel=1e-14)


def test_the_pythagorean_problem_is_where_it_should_be_at_time_ten() -> None:
    sim = in_rebound(named("pythagorean"))
    sim.integrate(10.0)
    expected = [[0.778480, 0.141392], [-2.025092, 0.097219], [1.152986, -0.162611]]
    np.testing.assert_allclose([[p.x, p.y] for p in sim.particles], expected, atol=2e-6)


def test_the_lagrange_triangle_is_equilateral_and_turns_as_a_rigid_body() -> None:
    particle = named("lagrange_triangle", mass=2.0)
    sides = torch.pdist(particle.position)
    side = float(sides[0])
    torch.testing.assert_close(sides, torch.full_like(sides, side))
    radius, speed = particle.position.norm(dim=-1), particle.velocity.norm(dim=-1)
    torch.testing.assert_close((speed / radius) ** 2 * side**3, torch.full_like(radius, 6.0))
    inward = pairwise(particle.position, particle.mass).acceleration
    rate = speed / radius
    torch.testing.assert_close(inward, -(rate**2)[:, None] * particle.position)
    torch.testing.assert_close(
        (particle.position * particle.velocity).sum(-1), torch.zeros(3).double(), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("number", [2, 100])
def test_a_plummer_sphere_has_henon_units_exactly(number: int) -> None:
    particle = named("plummer", num_particles=number, dim=3)
    assert float(particle.mass.sum()) == pytest.approx(1.0)
    kinetic = float(kinetic_energy(particle.velocity, particle.mass))
    potential = float(pairwise(particle.position, particle.mass).potential_energy)
    assert kinetic + potential == pytest.approx(-0.25, rel=1e-12)
    assert kinetic / -potential == pytest.approx(0.5, rel=1e-12)


def test_a_plummer_sphere_has_the_mass_profile_and_isotropy_of_plummers_law() -> None:
    particle = plummer_spheres(1, 3000, torch.Generator().manual_seed(2)).select(0)
    scale = 3 * math.pi / 16
    radius = particle.position.norm(dim=-1)
    for within in (0.5, 1.0, 2.0):
        share = float((radius < within * scale).double().mean())
        assert share == pytest.approx((1 + within**-2) ** -1.5, abs=0.05)
    speeds = particle.velocity.square().mean(0)
    assert float(speeds.max() / speeds.min()) < 1.15
    escape = (2 / (radius**2 + scale**2).sqrt()).sqrt()
    assert float((particle.velocity.norm(dim=-1) / escape).max()) < 1.1


def test_a_random_system_has_the_scales_and_masses_that_were_asked_for() -> None:
    particle = named("random", num_particles=2000, dim=3, pos_scale=0.2, vel_scale=3.0, mass=0.5)
    assert particle.position.shape == (2000, 3)
    assert float(particle.position.std()) == pytest.approx(0.2, rel=0.05)
    assert float(particle.velocity.std()) == pytest.approx(3.0, rel=0.05)
    assert particle.mass.unique().tolist() == [0.5]


@pytest.mark.parametrize("config", POPULATIONS, ids=lambda c: c.initial_conditions)
def test_a_draw_is_reproducible_and_its_seed_matters(config: Config) -> None:
    first, again = (initial_particle(config, seed=4) for _ in range(2))
    torch.manual_seed(99)  # the global generator plays no part
    later = initial_particle(config, seed=4)
    other = initial_particle(config, seed=5)
    for name in ("position", "velocity", "mass"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert torch.equal(getattr(first, name), getattr(later, name))
    assert not torch.equal(first.position, other.position)


@pytest.mark.parametrize("config", POPULATIONS, ids=lambda c: c.initial_conditions)
def test_each_epoch_can_be_drawn_afresh_and_again(config: Config) -> None:
    fresh = config.model_copy(update={"resample_each_epoch": True})

    def position(epoch: int) -> Tensor:
        return initial_particle(fresh, seed=4, epoch=epoch).position

    assert not torch.equal(position(0), position(7))
    assert torch.equal(position(7), position(7))


def test_drawing_does_not_disturb_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for config in POPULATIONS:
        initial_particle(config, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_softening_field_and_dtype_come_from_the_config() -> None:
    particle = named(
        "figure_eight",
        softening=0.05,
        dtype="float32",
        external_field_mass=2.0,
        external_field_position=[10.0, 0.0],
    )
    assert particle.softening == 0.05
    assert particle.external_field is not None
    assert particle.external_field.mass == 2.0
    assert particle.position.dtype == torch.float32


def test_inline_particles_are_the_rows_of_the_config() -> None:
    rows = [[1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0], [1.0, 0.0, -1.0, 0.0, -0.5, -0.5, 0.0]]
    particle = named("inline", particles=rows, dim=3)
    assert particle.position.tolist() == [row[1:4] for row in rows]
    assert particle.velocity.tolist() == [row[4:] for row in rows]


def test_two_particles_at_one_place_need_softening() -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, -1.0]]
    config = Config(initial_conditions="inline", particles=rows, device="cpu")
    with pytest.raises(InvalidInitialConditions, match="softening"):
        initial_particle(config, seed=0)
    softened = config.model_copy(update={"softening": 0.1})
    assert initial_particle(softened, seed=0).position.isfinite().all()


@pytest.mark.parametrize("kind", ["kepler", "random_bound"])
def test_one_system_can_have_a_gate_of_its_own(kind: str) -> None:
    config = Config.model_validate(
        {"initial_conditions": kind, "energy_threshold_max": 1e-2, "device": "cpu"}
    )
    threshold = initial_particle(config, seed=3).energy_threshold
    assert threshold is not None
    assert 2e-4 <= float(threshold) <= 1e-2
