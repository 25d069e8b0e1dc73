"""A stepper beside every criterion, on systems that it was not trained on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.evaluation.__main__ import main
from nbody.evaluation.beside_criteria import eccentricity, evaluate_beside_criteria
from nbody.evaluation.held_out import held_out_states
from nbody.simulation.criteria import criteria_of
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs
from tests.nbody.fakes import CONFIG, orbit, untrained


def trained_on(path: Path, **fields: Any) -> Path:
    config = CONFIG.model_copy(update=fields)
    TrainingRun.start(Config.model_validate(config.model_dump())).save(path)
    return path


def test_the_eccentricity_of_a_state_is_that_of_its_orbit() -> None:
    assert float(eccentricity(orbit(0.83, 2.0))) == pytest.approx(0.83)


@pytest.mark.slow
def test_a_report_has_every_rule_as_table_json_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainingRun.start(CONFIG)
    run.end_epoch(run.begin_epoch())
    path = run.save(tmp_path / "model.pt")
    arguments = [str(path), "--systems", "8", "--picture", str(tmp_path / "picture.png")]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["scores"]) == {"network", *criteria_of("leapfrog2")}
    assert 1 <= len(report["by_eccentricity"]) <= 5
    assert (tmp_path / "picture.png").stat().st_size > 1000
    cost = report["wall_time"]
    assert min(cost["stepper_s"], cost["force_s"], cost["force_batch_s"]) > 0
    assert main(arguments[:3]) == 0
    told = capsys.readouterr().out
    assert "Pham, Rein & Spiegel 2024" in told
    assert "One call of the stepper takes" in told
    assert main([str(tmp_path / "nothing.pt")]) == 1
    assert "nothing.pt" in capsys.readouterr().err


@pytest.mark.slow
def test_the_comparison_uses_other_systems_than_training() -> None:
    first, second = (evaluate_beside_criteria(untrained(), seed=seed, systems=4) for seed in (1, 2))
    assert first["scores"]["free fall"] != second["scores"]["free fall"]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_states_that_a_network_never_saw_are_counted() -> None:
    """Trained on nearly circular orbits, scored on these and on eccentric ones."""
    circular = {"e_min": 0.0, "e_max": 0.1, "num_orbits": 32, "resample_each_epoch": True}
    short = {"epochs": 8, "steps_per_epoch": 16, "replay_steps": 10}
    config = Config.model_validate(CONFIG.model_dump() | circular | short)
    run = TrainingRun.start(config)
    assert list(epochs(run))
    stepper = Stepper(run.model, run.adapter)
    eccentric = config.model_copy(update={"e_min": 0.8, "e_max": 0.9})
    home, away = (
        evaluate_beside_criteria(stepper, population, seed=1, systems=4)["outside_training"]
        for population in (config, eccentric)
    )
    assert home < 0.3
    assert away > 0.5
