"""Populations with planets, asteroids and encounters: what each draw must be."""

import math

import pytest
import torch

from nbody.config import Config
from nbody.gravity.invariants import centre_of_mass
from nbody.initial_conditions.from_config import initial_particle
from nbody.particle import ParticleTorch


def drawn(kind: str, **fields: object) -> ParticleTorch:
    given = {"initial_conditions": kind, "num_systems": 64, "device": "cpu", "dim": 3} | fields
    return initial_particle(Config.model_validate(given), seed=5)


def orbit(particle: ParticleTorch, inner: int, outer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Semi-major axis and eccentricity of a body about another, (B,) each."""
    separation = particle.position[:, outer] - particle.position[:, inner]
    velocity = particle.velocity[:, outer] - particle.velocity[:, inner]
    mass = particle.mass[:, inner] + particle.mass[:, outer]
    energy = velocity.square().sum(-1) / 2 - mass / separation.norm(dim=-1)
    turn = torch.linalg.cross(separation, velocity).square().sum(-1)
    axis = -mass / (2 * energy)
    return axis, (1 - turn / (mass * axis)).clamp_min(0).sqrt()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("planetary_system", {"num_particles": 6}),
        ("kozai_triple", {}),
        ("resonant_chain", {}),
        ("binary_single", {}),
        ("plummer", {"num_particles": 32, "mass_ratio_min": 0.01}),
    ],
)
def test_a_draw_is_at_rest_finite_and_the_same_for_a_seed(kind: str, fields: dict) -> None:
    one, again = drawn(kind, **fields), drawn(kind, **fields)
    assert one.position.equal(again.position)
    for values in (one.position, one.velocity):
        assert bool(values.isfinite().all())
        assert float(centre_of_mass(values, one.mass).abs().max()) < 1e-12
    assert bool((one.mass >= 0).all())


def test_planetary_systems_have_planets_and_massless_asteroids_among_them() -> None:
    particle = drawn("planetary_system", num_particles=7)
    assert particle.gate == "each"
    assert particle.mass.shape == (64, 7)
    assert bool((particle.mass[:, 1:4] > 0).all())
    assert bool((particle.mass[:, 1:4] <= 1e-3).all())
    assert bool((particle.mass[:, 4:] == 0).all())
    axis, e = orbit(particle, 0, 1)
    assert bool((axis > 0.79).all())
    assert bool((axis < 1.21).all())
    assert float(e.mean()) < 0.1


def test_kozai_triples_are_steep() -> None:
    particle = drawn("kozai_triple")
    assert particle.gate == "each"
    turns = []
    for body in (1, 2):
        separation = particle.position[:, body] - particle.position[:, 0]
        velocity = particle.velocity[:, body] - particle.velocity[:, 0]
        turn = torch.linalg.cross(separation, velocity)
        turns.append(turn / turn.norm(dim=-1, keepdim=True))
    angle = (turns[0] * turns[1]).sum(-1).acos() * 180 / math.pi
    assert float(angle.min()) > 60
    assert float(angle.max()) < 95


def test_a_resonant_chain_has_the_ratios_of_its_model() -> None:
    particle = drawn("resonant_chain")
    axes = torch.stack([orbit(particle, 0, body)[0] for body in range(1, 8)], dim=1)
    periods = axes**1.5
    ratios = (periods[:, 1:] / periods[:, :-1]).median(0).values
    assert ratios.tolist() == pytest.approx([8 / 5, 5 / 3, 3 / 2, 3 / 2, 4 / 3, 3 / 2], rel=0.02)


@pytest.mark.parametrize("speed", [0.0, 0.5, 1.0, 3.0])
def test_an_encounter_has_the_energy_that_its_speed_says(speed: float) -> None:
    particle = drawn("binary_single", vel_scale=speed)
    pair = -0.5 / orbit(particle, 0, 1)[0]  # -G m1 m2 / 2a, masses 1
    expected = pair.abs() * (speed**2 - 1)
    assert particle.total_energy_batch().tolist() == pytest.approx(
        expected.tolist(), rel=0.02, abs=0.01
    )
    assert particle.period is not None
    third = particle.position[:, 2] - particle.position[:, :2].mean(1)
    assert (third.norm(dim=-1) / orbit(particle, 0, 1)[0]).tolist() == pytest.approx([20.0] * 64)


def test_a_hot_cluster_is_unbound_and_a_mass_function_is_steep() -> None:
    hot = drawn("plummer", num_particles=64, virial_ratio=2.0)
    assert bool((hot.total_energy_batch() > 0).all())
    kinetic, potential = hot.energies()
    assert (kinetic / potential.abs()).tolist() == pytest.approx([2.0] * 64)
    stars = drawn("plummer", num_particles=256, mass_ratio_min=0.01)
    median = stars.mass.median(1).values / stars.mass.amin(1)
    assert median.tolist() == pytest.approx([2 ** (1 / 1.35)] * 64, rel=0.25)  # of Salpeter's law
    assert stars.mass.sum(1).tolist() == pytest.approx([1.0] * 64)
    assert stars.gate == "each"


def test_which_gate_is_taken_where_none_is_named() -> None:
    pair = [[1.0, 0.0, 0.0, 0.0, 0.0], [1e-6, 1.0, 0.0, 0.0, 1.0]]
    third = [1e-3, 5.0, 0.0, 0.0, 0.4]

    def gate(rows: list[list[float]], **fields: object) -> str:
        given = {"initial_conditions": "inline", "particles": rows, "device": "cpu"} | fields
        return initial_particle(Config.model_validate(given)).gate

    assert gate(pair) == "energy"
    assert gate(pair, gate="each") == "each"
    assert gate([*pair, third]) == "each"
    assert gate([*pair, third], gate="energy") == "energy"
    assert gate(pair, external_field_mass=1.0, external_field_position=[9.0, 0.0]) == "each"
    assert gate([pair[0], [0.0, *pair[1][1:]]]) == "each"
    assert gate([[1.0, *row[1:]] for row in [*pair, third]]) == "energy"
