"""Classical criteria against what is known of them, and the report that sets them side by side."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.errors import StepImpossible
from nbody.evaluation.__main__ import main
from nbody.evaluation.beside_criteria import eccentricity, evaluate_beside_criteria
from nbody.evaluation.held_out import held_out_states
from nbody.evaluation.long_runs import forces_at, long_runs
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.initial_conditions.named_systems import figure_eight
from nbody.integrators.states import States
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.simulation.criteria import CRITERIA, SERIES
from nbody.simulation.ias15 import ias15_run
from nbody.simulation.long_run import long_run
from nbody.simulation.rules import Rule
from nbody.simulation.time_symmetry import symmetric_step, time_even_step
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun

ONE = torch.ones(1, dtype=torch.float64)
CONFIG = Config(num_orbits=4, hidden_dims=[8], dropout=0.0, epochs=1, seed=1, device="cpu")


def orbit(e: float, mean_anomaly: float = 0.0) -> States:
    particle = kepler_orbits(e * ONE, ONE, mean_anomaly * ONE, 1.0, 2)
    particle.energy_threshold = 2e-4 * ONE
    return particle.states()


def untrained() -> Stepper:
    run = TrainingRun.start(CONFIG)
    return Stepper(run.model, ModelAdapter(CONFIG))


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


def test_the_eccentricity_of_a_state_is_that_of_its_orbit() -> None:
    assert float(eccentricity(orbit(0.83, 2.0))) == pytest.approx(0.83)


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


def test_forces_for_an_error_are_read_off_a_curve() -> None:
    forces, errors = [100.0, 200.0, 400.0], [1.6e-2, 4e-3, 1e-3]
    assert forces_at(forces, errors, 4e-3) == pytest.approx(200)
    assert forces_at(forces, errors, 8e-3) == pytest.approx(100 * math.sqrt(2))
    assert forces_at(forces, errors, 1e-5) is None


def test_a_report_has_every_rule_as_table_json_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainingRun.start(CONFIG)
    run.end_epoch(run.begin_epoch())
    path = run.save(tmp_path / "model.pt")
    arguments = [str(path), "--systems", "8", "--picture", str(tmp_path / "picture.png")]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["scores"]) == {"network", *CRITERIA}
    assert 1 <= len(report["by_eccentricity"]) <= 5
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert main(arguments[:3]) == 0
    assert "Pham, Rein & Spiegel 2024" in capsys.readouterr().out
    assert main([str(tmp_path / "nothing.pt")]) == 1
    assert "nothing.pt" in capsys.readouterr().err


def test_long_runs_are_of_every_rule_and_ias15(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCURACIES", 2), ("FEWEST", 30), ("MOST", 60)):
        monkeypatch.setattr(f"nbody.evaluation.long_runs.{name}", value)
    curves = list(long_runs(untrained(), eccentricity=0.3, orbits=1))
    rules = [curve["rule"] for curve in curves]
    assert {"fixed", "network", "network, gated", "network, reversible", "IAS15"} <= set(rules)
    ias15 = curves[-1]
    assert min(ias15["max_energy_error"]) < 1e-12
    assert all(len(c["forces_per_orbit"]) == len(c["max_energy_error"]) for c in curves)


def test_the_comparison_uses_other_systems_than_training() -> None:
    first, second = (evaluate_beside_criteria(untrained(), seed=seed, systems=4) for seed in (1, 2))
    assert first["scores"]["free fall"] != second["scores"]["free fall"]


def trained_on(path: Path, **fields: Any) -> Path:
    config = CONFIG.model_copy(update=fields)
    TrainingRun.start(Config.model_validate(config.model_dump())).save(path)
    return path


def test_one_fixed_system_is_scored_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 0.5], [1.0, 1.0, 0.0, 0.0, -0.5]]
    path = trained_on(tmp_path / "a.pt", initial_conditions="inline", particles=rows)
    assert main([str(path), "--systems", "16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["systems"], report["states"]) == (1, 128)
    assert main([str(path)]) == 0
    assert "held-out systems: 1," in (told := capsys.readouterr().out)
    assert "on the same states" in told


@pytest.mark.parametrize(
    "changes", [["hierarchical_triple"], ["plummer", "num_particles=4"], ["kepler"]]
)
def test_another_population_brings_its_own_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str]
) -> None:
    path = trained_on(tmp_path / "a.pt", resample_each_epoch=True, num_orbits=4)
    kind, *others = changes
    sets = [f"initial_conditions={kind}", *others]
    given = [word for change in sets for word in ("--set", change)]
    assert main([str(path), "--systems", "2", *given]) == 0
    assert kind in capsys.readouterr().out


def test_a_particle_without_a_force_on_it_has_no_step() -> None:
    eight = figure_eight().states()  # the third body is at the centre
    bodies = {name: float(rule(eight)) for name, rule in CRITERIA.items() if name != SERIES}
    assert min(bodies.values()) > 0.05


def test_every_held_out_state_is_in_a_bin_of_eccentricity() -> None:
    for kind in ("kepler", "kepler_ensemble"):
        population = CONFIG.model_copy(update={"initial_conditions": kind, "mass_ratio_min": 1e-3})
        report = evaluate_beside_criteria(untrained(), population, seed=1, systems=6)
        assert sum(row["states"] for row in report["by_eccentricity"]) == report["states"] / 2


def test_a_fixed_orbit_is_scored_with_the_masses_of_its_training() -> None:
    population = CONFIG.model_copy(
        update={"initial_conditions": "kepler", "mass_ratio_min": 1e-3, "num_orbits": 1}
    )
    mass = held_out_states(population, seed=1, systems=4).states.mass
    assert torch.equal(mass, torch.ones_like(mass))


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
