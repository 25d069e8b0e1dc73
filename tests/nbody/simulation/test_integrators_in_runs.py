"""Trainings and runs with each integrator: what they cost and keep, and what they refuse."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from nbody.checkpoint import load_config_from_checkpoint
from nbody.config import Config
from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.errors import SimulationImpossible
from nbody.evaluation.score import evaluate
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.named import INTEGRATORS
from nbody.metrics import EpochMetrics
from nbody.simulation.__main__ import main
from nbody.simulation.finished import Simulation
from nbody.simulation.long_run import long_run
from nbody.simulation.rules import Rule, rule_of
from nbody.simulation.run import simulate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs
from tests.nbody.fakes import orbit

NAMES: tuple[IntegratorName, ...] = get_args(IntegratorName)
SYMMETRIC = [name for name in NAMES if METHODS[name].symmetric]
SMALL = {
    "num_orbits": 4,
    "hidden_dims": [8],
    "dropout": 0.0,
    "epochs": 2,
    "steps_per_epoch": 4,
    "replay_steps": 50,
    "lr": 0.01,
    "seed": 1,
    "device": "cpu",
}


def run(stepper: Stepper | None = None, **fields: object) -> Simulation:
    given = {"initial_conditions": "kepler", "eccentricity": 0.5, "Nperiod": 2, "device": "cpu"}
    config = Config.model_validate(given | fields)
    return simulate(config, initial_particle(config, seed=1), stepper)


def train(**fields: object) -> tuple[TrainingRun, list[EpochMetrics]]:
    training = TrainingRun.start(Config.model_validate(SMALL | fields))
    return training, list(epochs(training))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_makes_as_many_passes_as_its_integrator(name: IntegratorName) -> None:
    found = run(integrator=name, integrator_mode="analytic", eta=0.05)
    assert found.force_evaluations == 1 + METHODS[name].passes * found.steps
    assert found.report()["max_energy_error"] < 5e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_gated_run_keeps_the_threshold_at_every_step(name: IntegratorName) -> None:
    found = run(integrator=name, integrator_mode="gated", eta=3.0, energy_threshold=1e-6)
    energy = found.energy
    assert float(((energy[1:] - energy[:-1]) / energy[:-1]).abs().max()) < 1e-6
    assert found.force_evaluations > METHODS[name].passes * found.steps


@pytest.mark.parametrize("name", SYMMETRIC)
def test_reversible_errors_do_not_add_up_at_any_order(name: IntegratorName) -> None:
    """At about the same error in the first period, after twenty more of them."""
    eta = {"leapfrog2": 0.1, "leapfrog4": 0.2, "leapfrog6": 0.5, "leapfrog8": 0.8}[name]
    given = {"integrator": name, "eta": eta, "Nperiod": 20, "eccentricity": 0.9}
    plain, reversible = (
        run(**given, integrator_mode=mode).report()["max_energy_error"]
        for mode in ("analytic", "reversible")
    )
    assert reversible < 0.5 * plain


@pytest.mark.parametrize("name", NAMES)
def test_a_long_run_counts_the_passes_of_each_step(name: IntegratorName) -> None:
    states = initial_particle(
        Config(initial_conditions="kepler", integrator=name, device="cpu"), seed=1
    ).states()
    steps = 16
    span = torch.ones_like(states.energy)
    for gate in (None, 1e6):
        rule = Rule(lambda states, _: torch.full_like(states.energy, 1 / steps), gate=gate)
        extra = METHODS[name].predicts and gate is not None
        passes = METHODS[name].passes + extra
        assert float(long_run(states, rule, span).force_evaluations) == 1 + steps * passes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", ["oracle", "band"])
def test_a_network_is_trained_for_the_steps_of_its_integrator(
    name: IntegratorName, loss: str, tmp_path: Path
) -> None:
    training, rows = train(integrator=name, loss=loss)
    assert rows[-1].max_energy_error < training.config.energy_threshold
    stepper = Stepper(training.model, training.adapter)
    kept = load_config_from_checkpoint(training.save(tmp_path / "model_epoch_0001.pt"))
    assert kept is not None
    assert kept.integrator == name
    states = initial_particle(training.config, seed=3).states()
    assert states.integrator is INTEGRATORS[name]
    alone = stepper(states.position, states.velocity, states.mass)
    torch.testing.assert_close(alone, stepper.of_states(states))
    found = run(stepper, integrator=name, integrator_mode="ml")
    assert found.report()["max_energy_error"] < 0.1
    scores = evaluate(stepper, seed=5, systems=2)
    assert 0 < scores["stepper"]["efficiency"] < 2


def test_a_stepper_is_not_asked_for_the_steps_of_another_integrator() -> None:
    training, _ = train(integrator="leapfrog4", epochs=1)
    stepper = Stepper(training.model, training.adapter)
    config = Config(integrator="leapfrog6", integrator_mode="ml", device="cpu")
    with pytest.raises(SimulationImpossible, match="use integrator=leapfrog4"):
        rule_of(config, stepper)


def test_a_command_takes_the_integrator_of_its_stepper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training, _ = train(integrator="hermite4_pec2", epochs=1)
    path = training.save(tmp_path / "model_epoch_0000.pt")
    fields = ["initial_conditions=kepler", "Nperiod=1"]
    options = [word for field in fields for word in ("--set", field)]
    assert main(["--stepper", str(path), "--rule", "ml", *options]) == 0
    assert main(["--stepper", str(path), "--rule", "ml", *options, "--set", "integrator=leapfrog2"])
    assert "hermite4_pec2" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SYMMETRIC)))
def test_what_is_not_symmetric_is_not_made_reversible(name: IntegratorName) -> None:
    with pytest.raises(ValidationError, match="not symmetric in time; reversible steps need"):
        Config(integrator=name, integrator_mode="reversible")


def test_time_runs_backward_for_what_is_kept_of_a_step() -> None:
    """Derivatives of odd order change sign: a step back from fresh ones agrees."""
    states = orbit(0.5, 1.0)
    kept = initial_particle(
        Config(initial_conditions="kepler", integrator="hermite4", device="cpu"), seed=1
    ).states()
    torch.testing.assert_close(kept.reversed().reversed().path(), kept.path())
    fresh = kept.at(kept.position, -kept.velocity, kept.mass, integrator=kept.integrator)
    torch.testing.assert_close(kept.reversed().path(), fresh.path())
    assert states.reversed().derivatives is None
