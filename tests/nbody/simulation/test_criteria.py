"""Classical criteria, and rules that are symmetric in time."""

import inspect
import math

import pytest
import torch

from nbody.initial_conditions.named_systems import figure_eight
from nbody.integrators.states import States
from nbody.particle import ParticleTorch
from nbody.simulation import criteria
from nbody.simulation.criteria import CRITERIA, LEADING, OWN, SERIES, criteria_of
from nbody.simulation.long_run import long_run
from nbody.simulation.rules import Rule
from nbody.simulation.time_symmetry import symmetric_step, time_even_step
from tests.nbody.fakes import ONE, orbit, untrained


def test_pham_rein_and_spiegel_is_the_orbital_time_of_a_circle() -> None:
    """Their time is 1/n on a circular orbit: a n² = j n = s."""
    found = float(CRITERIA["Pham, Rein & Spiegel 2024"](orbit(0.0)))
    assert found == pytest.approx(1 / math.sqrt(2.0))


def test_aarseths_criterion_is_the_orbital_time_of_a_circle() -> None:
    assert float(CRITERIA["Aarseth 1985"](orbit(0.0))) == pytest.approx(1 / math.sqrt(2.0))


@pytest.mark.parametrize("name", [name for name in CRITERIA if name != "fixed"])
def test_a_criterion_scales_as_a_time_and_ignores_a_boost(name: str) -> None:
    states = orbit(0.7, 1.0)
    particle = ParticleTorch.of_states(states)
    particle.position, particle.velocity = 4 * particle.position, 0.5 * particle.velocity + 3.0
    scaled = particle.states()
    torch.testing.assert_close(CRITERIA[name](scaled), 8 * CRITERIA[name](states))


@pytest.mark.slow
def test_a_reversible_run_keeps_its_energy_where_the_plain_rule_drifts() -> None:
    span = 10 * 2 * math.pi / math.sqrt(2.0) * ONE

    def steps(states: States, _: torch.Tensor) -> torch.Tensor:
        return 0.05 * CRITERIA["free fall"](states)

    plain = long_run(orbit(0.8, math.pi), Rule(steps), span)
    symmetric = long_run(orbit(0.8, math.pi), Rule(steps, reversible=True), span)
    assert float(symmetric.max_energy_error) < 0.7 * float(plain.max_energy_error)
    assert float(symmetric.final_energy_error) < 1e-3 * float(plain.final_energy_error)
    assert float(symmetric.force_evaluations) == pytest.approx(
        float(plain.force_evaluations), rel=0.1
    )


@pytest.mark.slow
def test_a_gated_run_counts_rejected_steps() -> None:
    def steps(states: States, _: torch.Tensor) -> torch.Tensor:
        return CRITERIA["free fall"](states)

    span = 2 * math.pi / math.sqrt(2.0) * ONE
    free = long_run(orbit(0.8), Rule(steps), span)
    gated = long_run(orbit(0.8), Rule(steps, gate=2e-4), span)
    assert float(gated.force_evaluations) > 2 * float(free.force_evaluations)
    assert float(gated.max_energy_error) < float(free.max_energy_error)


def test_the_symmetric_step_is_the_rules_where_it_is_constant() -> None:
    assert float(symmetric_step(0.3 * ONE, 0.3 * ONE)) == pytest.approx(0.3)


def test_the_time_even_step_does_not_know_the_direction_of_time() -> None:
    stepper, states = untrained(), orbit(0.9, 2.0)
    particle = ParticleTorch.of_states(states)
    particle.velocity = -particle.velocity
    there, back = (time_even_step(stepper, s) for s in (states, particle.states()))
    torch.testing.assert_close(there, back, rtol=1e-9, atol=0)


def test_a_particle_without_a_force_on_it_has_no_step() -> None:
    eight = figure_eight().states()  # the third body is at the centre
    bodies = {name: float(rule(eight)) for name, rule in CRITERIA.items() if name not in OWN}
    assert min(bodies.values()) > 0.05


def test_every_criterion_has_its_row() -> None:
    functions = inspect.getmembers(criteria, inspect.isfunction)
    own = {f for name, f in functions if f.__module__ == criteria.__name__ and name[0] != "_"}
    assert own - {criteria.criteria_of} == set(CRITERIA.values())


def test_our_own_criteria_are_of_one_integrator_each() -> None:
    for name, own in (("leapfrog2", {SERIES}), ("leapfrog6", set()), ("hermite4_pec3", {LEADING})):
        assert set(criteria_of(name)) == (set(CRITERIA) - OWN) | own
