"""What rules cost over many orbits."""

import math

import pytest

from nbody.errors import StepImpossible
from nbody.evaluation.long_runs import forces_at, long_runs
from nbody.particle import ParticleTorch
from nbody.simulation.ias15 import ias15_run
from nbody.simulation.long_run import long_run
from nbody.simulation.rules import Rule
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from tests.nbody.fakes import CONFIG, ONE, orbit, untrained


def test_forces_for_an_error_are_read_off_a_curve() -> None:
    forces, errors = [100.0, 200.0, 400.0], [1.6e-2, 4e-3, 1e-3]
    assert forces_at(forces, errors, 4e-3) == pytest.approx(200)
    assert forces_at(forces, errors, 8e-3) == pytest.approx(100 * math.sqrt(2))
    assert forces_at(forces, errors, 1e-5) is None


@pytest.mark.slow
def test_long_runs_are_of_every_rule_and_ias15(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCURACIES", 2), ("FEWEST", 30), ("MOST", 60)):
        monkeypatch.setattr(f"nbody.evaluation.long_runs.{name}", value)
    curves = list(long_runs(untrained(), eccentricity=0.3, orbits=1))
    rules = [curve["rule"] for curve in curves]
    assert {"fixed", "network", "network, gated", "network, reversible", "IAS15"} <= set(rules)
    ias15 = curves[-1]
    assert min(ias15["max_energy_error"]) < 1e-12
    assert all(len(c["forces_per_orbit"]) == len(c["max_energy_error"]) for c in curves)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leapfrog6", "hermite4"])
def test_long_runs_are_with_the_steppers_integrator(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("nbody.evaluation.long_runs.ACCURACIES", 2)
    run = TrainingRun.start(CONFIG.model_copy(update={"integrator": name}))
    stepper = Stepper(run.model, run.adapter)
    symmetric = name == "leapfrog6"
    rules = ["free fall", *(["free fall, reversible"] if symmetric else [])]
    for curve in long_runs(stepper, eccentricity=0.5, orbits=2, rules=rules):
        assert min(curve["max_energy_error"]) < 1e-6  # a second-order run of so many has 1e-3
        assert curve["reference_error"] == 1e-4
    if not symmetric:
        with pytest.raises(ValueError, match="not symmetric"):
            list(long_runs(stepper, orbits=1, rules=["free fall, reversible"]))


def test_a_network_that_needs_its_past_has_no_long_runs() -> None:
    config = CONFIG.model_copy(update={"history_len": 1})
    run = TrainingRun.start(config)
    with pytest.raises(ValueError, match="without history"):
        list(long_runs(Stepper(run.model, run.adapter), orbits=1, rules=["network, reversible"]))


def test_a_rule_that_gives_no_number_ends_a_long_run_at_once() -> None:
    with pytest.raises(StepImpossible):
        long_run(orbit(0.5), Rule(lambda states, _: states.energy * math.nan), ONE)


def test_ias15_costs_what_it_costs_however_long_the_run_is() -> None:
    particle = ParticleTorch.of_states(orbit(0.9, math.pi)).select(0)
    period = 2 * math.pi / math.sqrt(2.0)
    rates = [ias15_run(particle, orbits * period)[0] / orbits for orbits in (5, 20)]
    assert rates[1] == pytest.approx(rates[0], rel=0.05)
    assert 0 < ias15_run(particle, period)[1] < 1e-13
