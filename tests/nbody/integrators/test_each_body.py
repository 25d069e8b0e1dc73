"""The gate on each body's orbit: light bodies count as much as heavy ones."""

import math
from dataclasses import replace

import pytest
import torch

from nbody.config import Config
from nbody.features.error_columns import error_series_features
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.each_body import dominant_neighbour
from nbody.integrators.oracle import cautious_step, first_crossing
from nbody.integrators.states import States
from nbody.particle import make_particle

THRESHOLD = 2e-4
MASSES = [1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 0.0]


def with_asteroid(mass: float, gate: str = "each") -> States:
    """Star, Jupiter, and a body at the apocentre of an orbit with a = 1, e = 0.9."""
    jupiter = 5.2 * 0.95
    rows = [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [1e-3, jupiter, 0.0, 0.0, math.sqrt(1.001 * 1.05 / jupiter)],
        [mass, 0.0, -1.9, math.sqrt(0.1 / 1.9), 0.0],
    ]
    threshold = torch.tensor(THRESHOLD, dtype=torch.float64)
    particle = make_particle(rows).replace(gate=gate, energy_threshold=threshold)
    return particle.states()


def steps_in(states: States, span: float) -> int:
    """Oracle's steps to cover a time."""
    count, time = 0, 0.0
    while time < span:
        dt = cautious_step(states, THRESHOLD)
        states, time, count = states.after(states.step(dt)), time + float(dt), count + 1
    return count


def test_a_body_takes_the_same_steps_whatever_its_mass() -> None:
    quarter = 2 * math.pi / 4
    counts = [steps_in(with_asteroid(mass), quarter) for mass in MASSES]
    assert max(counts) <= 1.05 * min(counts)
    crossings = [float(first_crossing(with_asteroid(mass), THRESHOLD)) for mass in MASSES]
    assert max(crossings) <= 1.05 * min(crossings)


def test_the_total_energy_alone_sees_no_light_body() -> None:
    heavy, light = (float(first_crossing(with_asteroid(m, "energy"), THRESHOLD)) for m in (1e-3, 0))
    assert light > 5 * heavy


@pytest.mark.parametrize("ratio", [1.0, 0.3, 1e-6])
def test_of_two_bodies_it_is_the_total_energy_and_how_the_orbit_turns(ratio: float) -> None:
    e, axis, phase = (torch.tensor([x], dtype=torch.float64) for x in (0.9, 1.0, 1.0))
    mass = torch.tensor([[1.0, ratio]], dtype=torch.float64)
    states = kepler_orbits(e, axis, phase, mass, 2).states()
    for dt in (0.01, 0.1, 0.5):
        step = torch.tensor([dt], dtype=torch.float64)
        for repeats in (1, 3):
            alone = states.step(step, repeats)
            orbits = states.orbits()
            each = replace(states, gate="each").step(step, repeats).energy_error
            assert bool((each >= alone.energy_error * (1 - 1e-6) - 1e-13).all())
        one = states.step(step)
        after = orbits.after(states.motion, states.after(one).motion, step)
        size = after.error.abs() / after.scale
        torch.testing.assert_close(
            size, one.energy_error.unsqueeze(1).expand(1, 2), rtol=1e-6, atol=1e-13
        )


def test_a_circular_orbit_keeps_its_energy_and_is_not_let_turn() -> None:
    """Where somebody else is there, whom it could meet turned."""
    pair = [[1.0, 0.0, 0.0, 0.0, 0.0], [1e-3, 1.0, 0.0, 0.0, math.sqrt(1.001)]]
    for rows, least, most in ((pair, 10, 40), ([*pair, [0.0, 1e3, 0.0, 0.0, 0.0]], 60, 90)):
        states = make_particle(rows).replace(gate="each").states()
        steps = 2 * math.pi / float(first_crossing(states, THRESHOLD))
        assert least < steps < most  # of a lone pair its energy alone; else (3 · 2e-4)^(1/3) of 1/n


@pytest.mark.parametrize("mass", [1e-3, 1e-6, 1e-12, 0.0])
def test_a_lone_body_takes_the_same_steps_whatever_it_weighs(mass: float) -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [mass, 1.0, 0.0, 0.0, 0.9]]
    config = Config.model_validate(
        {"initial_conditions": "inline", "particles": rows, "energy_threshold": 1e-6}
    )
    heavier = make_particle([rows[0], [1e-3, *rows[1][1:]]]).states()
    states = initial_particle(config.model_copy(update={"device": "cpu"})).states()
    ratio = first_crossing(states, 1e-6) / first_crossing(heavier, 1e-6)
    assert float(ratio) == pytest.approx(1, rel=0.01)


def test_a_massless_body_at_a_star_has_a_step() -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.9, 0.0, 0.0, math.sqrt(0.1 / 1.9)]]
    alone = make_particle([[1.0, *row[1:]] for row in rows])
    particle = make_particle(rows).replace(gate="each")
    dt = first_crossing(particle.states(), THRESHOLD)
    assert dt.isfinite().all()
    assert 0.1 < float(dt / first_crossing(alone.states(), THRESHOLD)) < 10


def test_the_series_of_the_features_crosses_where_the_gate_does() -> None:
    for mass in MASSES:
        states = with_asteroid(mass)
        predicted = error_series_features(states, THRESHOLD)[..., -1].exp()
        assert float(predicted / first_crossing(states, THRESHOLD)) == pytest.approx(1, abs=0.02)


def test_a_moon_belongs_to_its_planet() -> None:
    """Though the star pulls twice as hard: what counts is whose tide is larger."""
    position = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.00257, 0.0]], dtype=torch.float64)
    mass = torch.tensor([1.0, 3e-6, 3.7e-8], dtype=torch.float64)
    assert dominant_neighbour(position, mass).tolist() == [1, 2, 1]


def test_the_distant_companion_of_a_close_pair_asks_for_no_smaller_steps() -> None:
    """Its orbit about one of the two is none: the pair's own motion is no error of it."""
    v = math.sqrt(0.5)
    pair = [[1.0, 0.5, 0.0, 0.0, v], [1.0, -0.5, 0.0, 0.0, -v]]
    third = [1e-6, 30.0, 0.0, 0.0, math.sqrt(2 / 30)]
    nobody = [0.0, 1e4, 0.0, 0.0, 0.0]
    alone = first_crossing(make_particle([*pair, nobody]).replace(gate="each").states(), THRESHOLD)
    three = make_particle([*pair, third]).replace(gate="each").states()
    assert float(first_crossing(three, THRESHOLD) / alone) == pytest.approx(1, rel=0.05)


def test_the_gate_on_each_body_has_gradients() -> None:
    states = with_asteroid(1e-9)
    dt = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    states.step(dt).energy_error.sum().backward()
    slope = float(dt.grad)  # type: ignore[arg-type]
    with torch.no_grad():
        errors = [float(states.step(dt + shift).energy_error) for shift in (-1e-6, 1e-6)]
    assert slope == pytest.approx((errors[1] - errors[0]) / 2e-6, rel=1e-5)
