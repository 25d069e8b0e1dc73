"""Every integrator: its order, its symmetry, its cost; against REBOUND and independent Hermites."""

import math
from typing import get_args

import numpy as np
import pytest
import rebound
import torch

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.gravity.external_field import PointMassTidalField
from nbody.gravity.force import counted_forces
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.error_series import error_series
from nbody.integrators.leapfrog import Leapfrog
from nbody.integrators.named import INTEGRATORS
from nbody.integrators.oracle import cautious_step, first_crossing
from nbody.integrators.states import States, concatenate_states

PERTURBER = PointMassTidalField(mass=2.0, position=(4.0, 0.0))
NAMES: tuple[IntegratorName, ...] = get_args(IntegratorName)
COMPOSED = [name for name in NAMES if isinstance(INTEGRATORS[name], Leapfrog)]
HERMITES = [name for name in NAMES if name not in COMPOSED]
Array = np.ndarray


def three_bodies(name: IntegratorName = "leapfrog2", **options: object) -> States:
    rows = torch.tensor(
        [
            [1.0, 1.0, 0.2, 0.1, 0.6],
            [0.5, -0.7, 0.5, -0.3, -0.5],
            [2.0, 0.1, -0.9, 0.5, -0.2],
        ],
        dtype=torch.float64,
    ).unsqueeze(0)
    return States.at(
        rows[..., 1:3], rows[..., 3:], rows[..., 0], integrator=INTEGRATORS[name], **options
    )


def after(states: States, dt: float, steps: int) -> States:
    step = torch.full((len(states),), dt, dtype=torch.float64)
    for _ in range(steps):
        states = states.after(states.step(step))
    return states


@pytest.mark.parametrize("name", NAMES)
def test_the_error_of_a_run_falls_with_the_power_that_is_its_order(name: IntegratorName) -> None:
    order = METHODS[name].order
    one = torch.ones(1, dtype=torch.float64)
    orbit = kepler_orbits(0.4 * one, one, math.pi * one, 1.0, 2)
    states = orbit.replace(integrator=INTEGRATORS[name]).states()
    span = float(orbit.period[0]) / 4
    numbers = (32, 64, 512) if order < 8 else (4, 8, 64)
    places = [after(states, span / steps, steps).position for steps in numbers]
    coarse, fine = (float((place - places[-1]).abs().max()) for place in places[:2])
    assert order - 0.5 < math.log2(coarse / fine) < order + 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_step_back_ends_where_it_began_if_the_method_is_symmetric(name: IntegratorName) -> None:
    states = three_bodies(name)
    there = after(states, 0.2, 1)
    fresh = States.at(there.position, there.velocity, there.mass, integrator=INTEGRATORS[name])
    off = float((after(fresh, -0.2, 1).position - states.position).abs().max())
    assert (off < 1e-14) is METHODS[name].symmetric


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gated", [True, False])
def test_as_many_passes_are_made_as_are_told(name: IntegratorName, gated: bool) -> None:
    states = three_bodies(name)
    with counted_forces() as count:
        states.step(torch.tensor([0.01], dtype=torch.float64), gated=gated)
    assert count.systems == METHODS[name].passes + (gated and METHODS[name].predicts)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_has_as_many_parts_as_passes_and_covers_the_step(
    name: IntegratorName,
) -> None:
    parts = INTEGRATORS[name].parts
    assert len(parts) == METHODS[name].passes
    assert sum(parts) == pytest.approx(1.0, abs=1e-14)
    assert parts == parts[::-1]


@pytest.mark.parametrize("name", COMPOSED)
def test_the_parts_are_those_of_rebounds_leapfrogs(name: IntegratorName) -> None:
    """REBOUND drifts, kicks and drifts; with our parts, that is its very step."""
    states, dt = three_bodies(name), 0.05
    sim = rebound.Simulation()
    for m, x, v in zip(states.mass[0], states.position[0], states.velocity[0], strict=True):
        sim.add(m=float(m), x=float(x[0]), y=float(x[1]), vx=float(v[0]), vy=float(v[1]))
    sim.integrator = "leapfrog"
    sim.integrator.order = METHODS[name].order
    sim.dt = dt
    sim.steps(10)
    sim.synchronize()
    position, velocity = states.position, states.velocity
    for share in INTEGRATORS[name].parts * 10:
        position = position + share * dt / 2 * velocity
        velocity = velocity + share * dt * states.pulled.force(position).acceleration
        position = position + share * dt / 2 * velocity
    theirs = torch.tensor([[p.x, p.y] for p in sim.particles], dtype=torch.float64)
    torch.testing.assert_close(position[0], theirs, rtol=1e-12, atol=1e-12)


def numpy_pass(x: Array, v: Array, m: Array) -> tuple[Array, Array]:
    """Accelerations and jerks, in numpy."""
    d, w = x[None] - x[:, None], v[None] - v[:, None]
    r2 = (d**2).sum(-1) + np.eye(len(m))
    weight = m[None, :, None] / r2[..., None] ** 1.5
    along = (d * w).sum(-1)[..., None] / r2[..., None]
    return (weight * d).sum(1), (weight * (w - 3 * along * d)).sum(1)


@pytest.mark.parametrize("name", HERMITES)
def test_hermite_is_the_textbooks(name: IntegratorName) -> None:
    """Makino & Aarseth 1992, eqs. 3 to 9 with the corrector of Hut, Makino & McMillan 1995, and
    what Nitadori & Makino 2008 call PEC: the last pass is the next step's first."""
    states, h = three_bodies(name), 0.03
    x, v, m = (t[0].numpy() for t in (states.position, states.velocity, states.mass))
    a, j = numpy_pass(x, v, m)
    for _ in range(20):
        x1 = x + v * h + a * h**2 / 2 + j * h**3 / 6
        v1 = v + a * h + j * h**2 / 2
        for _ in range(METHODS[name].passes):
            a1, j1 = numpy_pass(x1, v1, m)
            v1 = v + (a + a1) * h / 2 + (j - j1) * h**2 / 12
            x1 = x + (v + v1) * h / 2 + (a - a1) * h**2 / 12
        x, v, a, j = x1, v1, a1, j1
    ours = after(states, h, 20)
    np.testing.assert_allclose(ours.position[0].numpy(), x, rtol=1e-12)
    np.testing.assert_allclose(ours.velocity[0].numpy(), v, rtol=1e-12)


def test_what_hermite_keeps_of_a_step_tends_to_the_derivatives_of_the_true_path() -> None:
    for h in (0.02, 0.01):
        states = after(three_bodies("hermite4_pec3"), h, 4)
        kept = states.path()
        fresh = States.at(
            states.position, states.velocity, states.mass, integrator=states.integrator
        ).path()
        off = [(k - f).norm() / f.norm() for k, f in zip(kept, fresh, strict=True)]
        assert max(off[:2]) < 1e-4 * (h / 0.02) ** 4
        assert off[2] < 0.02 * (h / 0.02) ** 2
        assert off[3] < 0.2 * (h / 0.02)
        assert off[4] < 0.5 * (h / 0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gate", ["energy", "each"])
def test_the_oracle_knows_every_integrator(name: IntegratorName, gate: str) -> None:
    threshold = 1e-6
    states = concatenate_states([three_bodies(name, gate=gate), three_bodies(name, gate=gate)])
    largest = first_crossing(states, threshold)
    errors = [states.step(factor * largest).energy_error for factor in (0.999, 1.001)]
    assert bool((errors[0] < threshold).all())
    assert bool((errors[1] > threshold).all())
    tried = cautious_step(states, threshold)
    assert bool((tried <= largest).all())
    assert bool((tried > 0.8 * largest).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_step_pays_with_higher_order(name: IntegratorName) -> None:
    """Per pass at a small error: what higher orders are for."""
    at = {n: float(first_crossing(three_bodies(n), 1e-10)) / METHODS[n].passes for n in NAMES}
    if METHODS[name].order > 2:
        assert at[name] > 2 * at["leapfrog2"]


def test_a_light_bodys_orbit_counts_at_every_order() -> None:
    """A massless body on an eccentric orbit about a star with a planet: the energy says nothing."""
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [1e-3, 5.2, 0.0, 0.0, 0.4387], [0.0, 0.0, 0.1, 4.2, 0.0]]
    table = torch.tensor(rows, dtype=torch.float64).unsqueeze(0)
    for name in NAMES:
        crossings = [
            float(
                first_crossing(
                    States.at(
                        *(table[..., 1:3], table[..., 3:], table[..., 0]),
                        gate=gate,
                        integrator=INTEGRATORS[name],
                    ),
                    1e-6,
                )
            )
            for gate in ("energy", "each")
        ]
        assert crossings[0] > 5 * crossings[1]


def test_the_error_of_an_orbit_by_halving_agrees_with_simpsons_rule() -> None:
    states = three_bodies(gate="each")
    dt = torch.tensor([1e-3], dtype=torch.float64)
    step = states.after(states.step(dt)).motion
    halved = after(after(states, 5e-4, 1), 5e-4, 1).motion
    by_rule = states.orbits().after(states.motion, step, dt).error
    by_halving = states.orbits().beside(step, halved, 2).error
    torch.testing.assert_close(by_halving, by_rule, rtol=2e-2, atol=0)


def test_states_of_two_integrators_are_no_batch() -> None:
    with pytest.raises(ValueError, match="integrator"):
        concatenate_states([three_bodies("leapfrog2"), three_bodies("leapfrog4")])


def test_a_system_that_rests_keeps_what_is_known_of_it() -> None:
    states = after(three_bodies("hermite4"), 0.01, 1)
    rested = states.after(states.step(torch.zeros(1, dtype=torch.float64)))
    torch.testing.assert_close(rested.position, states.position, rtol=0, atol=0)
    torch.testing.assert_close(rested.path(), states.path(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["leapfrog2", *HERMITES])
@pytest.mark.parametrize("about", [{}, {"softening": 0.4}, {"field": PERTURBER}])
def test_the_leading_error_is_that_of_a_small_step(
    name: IntegratorName, about: dict[str, object]
) -> None:
    """Of a state that several steps of one size led to."""
    dt = 2e-3 if name == "leapfrog2" else 8e-3
    states = after(three_bodies(name, **about), dt, 4)
    made = after(states, dt, 1).energy - states.energy
    told = states.integrator.leading_error(states.motion, states.pulled)
    torch.testing.assert_close(told * dt ** (METHODS[name].order + 1), made, rtol=0.1, atol=0)


def test_of_second_order_it_is_the_first_term_of_the_error_series() -> None:
    states = three_bodies(softening=0.2)
    first = error_series(states, torch.ones_like(states.energy))[:, 0]
    told = states.integrator.leading_error(states.motion, states.pulled)
    torch.testing.assert_close(told, first)


def test_of_a_composition_it_is_not_known() -> None:
    states = three_bodies("leapfrog4")
    assert states.integrator.leading_error(states.motion, states.pulled) is None
