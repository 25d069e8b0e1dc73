"""Ellipses, parabolas and hyperbolas, against their definitions and against REBOUND."""

import math
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.evaluation.held_out import held_out_states
from nbody.initial_conditions.conics import anomaly_of, mean_anomaly
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.particle import ParticleTorch

rebound: Any = pytest.importorskip("rebound")
KINDS = [0.0, 0.3, 0.99, 1.0, 1.0001, 1.5, 10.0, 1000.0]


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def pair(e: float, size: float, mean: float) -> ParticleTorch:
    mass = torch.tensor([[3.0, 2.0]], dtype=torch.float64)
    return kepler_orbits(one(e), one(size), one(mean), mass, 2, one(0.4)).select(0)


@pytest.mark.parametrize("e", KINDS)
def test_the_anomaly_of_a_mean_anomaly_is_the_one_it_came_from(e: float) -> None:
    anomaly = torch.linspace(-3, 3, 61, dtype=torch.float64)
    kind = torch.full_like(anomaly, e)
    torch.testing.assert_close(
        anomaly_of(mean_anomaly(anomaly, kind), kind), anomaly, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("e", [e for e in KINDS if e != 1])
@pytest.mark.parametrize("mean", [-2.0, 0.3])
def test_orbits_are_those_of_rebound(e: float, mean: float) -> None:
    """Its a of a hyperbola is negative, and its M is ours."""
    sim = rebound.Simulation()
    sim.add(m=3.0)
    sim.add(m=2.0, a=1.7 if e < 1 else -1.7, e=e, M=mean, omega=0.4)
    theirs = sim.particles[1]
    ours = pair(e, 1.7, mean)
    for got, wanted in (
        (ours.position[1] - ours.position[0], (theirs.x, theirs.y)),
        (ours.velocity[1] - ours.velocity[0], (theirs.vx, theirs.vy)),
    ):
        assert got.tolist() == pytest.approx(wanted, rel=1e-8, abs=1e-8)


def test_a_parabola_has_no_energy_and_comes_as_near_as_it_is_told() -> None:
    for mean in (-30.0, -1.0, 0.0, 4.0):
        particle = pair(1.0, 0.7, mean)
        separation = particle.position[1] - particle.position[0]
        velocity = particle.velocity[1] - particle.velocity[0]
        assert float(velocity.square().sum() / 2 - 5 / separation.norm()) == pytest.approx(
            0, abs=1e-12
        )
        turn = separation[0] * velocity[1] - separation[1] * velocity[0]
        assert float(turn) == pytest.approx(math.sqrt(2 * 5 * 0.7), rel=1e-12)
    nearest = pair(1.0, 0.7, 0.0)
    assert float((nearest.position[1] - nearest.position[0]).norm()) == pytest.approx(0.7)


def test_an_unbound_pair_comes_in_from_fifty_pericentres() -> None:
    for e in (1.0, 1.5, 100.0):
        config = Config(initial_conditions="kepler", eccentricity=e, device="cpu")
        particle = initial_particle(config)
        separation = particle.position[1] - particle.position[0]
        velocity = particle.velocity[1] - particle.velocity[0]
        pericentre = 1.0 if e == 1 else e - 1
        assert float(separation.norm()) == pytest.approx(50 * pericentre)
        assert float((separation * velocity).sum()) < 0
        assert particle.period is None


def test_a_population_may_go_from_bound_to_unbound() -> None:
    config = Config(e_min=0.5, e_max=3.0, num_orbits=64, device="cpu", seed=3)
    particle = initial_particle(config, seed=3)
    energy = particle.total_energy_batch()
    assert 5 < int((energy > 0).sum()) < 60
    assert bool(torch.isfinite(particle.position).all())


@pytest.mark.parametrize("e", [0.9, 1.0, 4.0])
def test_the_states_of_an_evaluation_stand_for_the_time_of_the_whole_passage(e: float) -> None:
    config = Config(e_min=e, e_max=e, a_min=1.0, a_max=1.0, device="cpu")
    held_out = held_out_states(config, seed=1, systems=2)
    whole = float(held_out.weight.sum()) / 2
    if e < 1:
        expected = 2 * math.pi * math.sqrt(1 / 2)
    else:  # twice the fall from fifty pericentres
        separations = (held_out.states.position[:, 1] - held_out.states.position[:, 0]).norm(dim=1)
        assert float(separations.max()) < 50.0 * (1 if e == 1 else e - 1) * (1 + 1e-9)
        particle = initial_particle(
            Config(initial_conditions="kepler", eccentricity=e, device="cpu")
        )
        sim = rebound.Simulation()
        for m, x, v in zip(particle.mass, particle.position, particle.velocity, strict=True):
            sim.add(m=float(m), x=float(x[0]), y=float(x[1]), vx=float(v[0]), vy=float(v[1]))
        sim.integrate(expected_half := whole / 2)
        first, second = sim.particles
        nearest = math.hypot(second.x - first.x, second.y - first.y)
        assert nearest == pytest.approx(1.0 if e == 1 else e - 1, rel=1e-2)
        expected = 2 * expected_half
    assert whole == pytest.approx(expected, rel=1e-6)
