"""Simulations and evaluations as a worker's process does them."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbody.config import Config
from nbody.errors import CheckpointUnreadable, SimulationImpossible
from nbody.training.run import TrainingRun
from server.wire.kinds import KINDS
from server.wire.states import StopReason
from server.wire.workers import Assignment, ResumePoint
from worker.child.process import TASKS, outcome_of
from worker.child.watcher import ChildWatcher, StopRequested
from worker.spool import ProgressFile, SpoolReader, SpoolWriter

TINY: dict[str, Any] = {"num_orbits": 2, "hidden_dims": [4], "seed": 5}


def stepper_in(data: Path, **fields: Any) -> ResumePoint:
    path = data / "old" / "model_epoch_0003.pt"
    TrainingRun.start(Config(**(TINY | fields))).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ResumePoint(epoch=3, path="old/model_epoch_0003.pt", sha256=digest)


def assignment(kind: Any, config: dict[str, Any], *points: ResumePoint) -> Assignment:
    return Assignment(
        job="job",
        kind=kind,
        attempt=1,
        lease_id="lease",
        lease_ttl_s=1,
        config=Config(**(TINY | config)),
        output_folder="run/job/attempt-1",
        resume_from=list(points),
        must_resume=bool(points) or KINDS[kind].stepper == "required",
        runtime_left_s=None,
    )


def run(data: Path, given: Assignment, *, stop: bool = False) -> tuple[dict[str, Any], list[Any]]:
    spool, watcher = SpoolWriter(data / "spool"), ChildWatcher(ProgressFile(data / "progress"))
    if stop:
        watcher.ask_to_stop()
        watcher._asked_at = -1000.0  # long ago
    outcome = TASKS[given.kind](given, data, spool, watcher)
    return outcome, SpoolReader(data / "spool").peek(1000)


@pytest.mark.slow
def test_a_simulation_leaves_its_states_and_what_was_conserved(tmp_path: Path) -> None:
    given = assignment(
        "simulate",
        {"integrator_mode": "ml", "initial_conditions": "kepler", "duration": 1.0},
        stepper_in(tmp_path),
    )
    outcome, records = run(tmp_path, given)
    assert outcome["status"] == "succeeded"
    result = outcome["result"]
    assert result["final_time"] == pytest.approx(1.0)
    assert result["max_energy_error"] < 1e-2
    files = {Path(r["data"]["path"]).name: r["data"] for r in records if r["kind"] == "artifact"}
    assert set(files) == {"simulation.npz", "orbit.json", "result.json"}
    for record in files.values():
        content = (tmp_path / record["path"]).read_bytes()
        assert len(content) == record["bytes"]
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
    states = np.load(tmp_path / files["simulation.npz"]["path"])
    assert len(states["time"]) == result["steps"] + 1
    assert json.loads((tmp_path / files["result.json"]["path"]).read_text()) == result
    names = {path.name for path in (tmp_path / "run/job/attempt-1").iterdir()}
    assert names == set(files)  # nothing half-written is left


@pytest.mark.slow
def test_a_classical_rule_runs_without_a_stepper(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, assignment("simulate", {"integrator_mode": "fixed", "dt": 0.01}))
    assert outcome["result"]["steps"] > 100


@pytest.mark.slow
def test_an_evaluation_scores_the_stepper_beside_every_criterion(tmp_path: Path) -> None:
    given = assignment("evaluate", {"evaluation_orbits": 4}, stepper_in(tmp_path))
    outcome, records = run(tmp_path, given)
    scores = outcome["result"]["scores"]
    assert {"network", "free fall"} <= set(scores)
    assert scores["network"]["efficiency"] > 0
    json.dumps(outcome["result"], allow_nan=False)
    assert [record["kind"] for record in records] == ["begin", "artifact", "artifact"]


def test_a_stepper_that_is_not_what_it_was_is_not_used(tmp_path: Path) -> None:
    point = stepper_in(tmp_path)
    (tmp_path / point.path).write_bytes(b"something else")
    with pytest.raises(CheckpointUnreadable):
        run(tmp_path, assignment("evaluate", {}, point))


def test_a_stepper_that_was_deleted_is_not_replaced_by_a_classical_rule(tmp_path: Path) -> None:
    given = assignment("simulate", {"integrator_mode": "reversible"})
    with pytest.raises(CheckpointUnreadable, match="deleted"):
        run(tmp_path, given.model_copy(update={"must_resume": True}))


def test_a_run_with_too_many_states_ends_before_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbody.simulation.recording.MOST_NUMBERS", 100)
    given = assignment("simulate", {"integrator_mode": "fixed", "dt": 1e-3})
    with pytest.raises(SimulationImpossible, match="states are kept") as error:
        run(tmp_path, given)
    assert outcome_of(error.value)["stop_reason"] == StopReason.INVALID_CONFIG


def test_a_simulation_leaves_when_it_is_asked_to(tmp_path: Path) -> None:
    given = assignment("simulate", {"integrator_mode": "fixed", "dt": 1e-6, "duration": 1e3})
    with pytest.raises(StopRequested):
        run(tmp_path, given, stop=True)


@pytest.mark.parametrize("population", ["kepler_ensemble", "figure_eight_family"])
def test_an_evaluation_leaves_when_it_is_asked_to(tmp_path: Path, population: str) -> None:
    point = stepper_in(tmp_path)
    given = assignment("evaluate", {"initial_conditions": population}, point)
    with pytest.raises(StopRequested):
        run(tmp_path, given, stop=True)


def test_states_of_a_batch_are_saved_beside_each_other(tmp_path: Path) -> None:
    given = assignment("simulate", {"integrator_mode": "analytic", "duration": 0.5})
    _, records = run(tmp_path, given)
    path = next(r["data"]["path"] for r in records if r["data"].get("path", "").endswith("npz"))
    assert torch.from_numpy(np.load(tmp_path / path)["position"]).shape[1:] == (2, 2, 2)


@pytest.mark.slow
def test_an_export_leaves_a_file_of_each_form_or_says_why_not(tmp_path: Path) -> None:
    point = stepper_in(tmp_path, feature_type="dimensionless")
    outcome, records = run(tmp_path, assignment("export", {}, point))
    forms = outcome["result"]["formats"]
    assert {forms[form]["file"] for form in ("c", "fortran")} == {
        "stepper_c.zip",
        "stepper_fortran.zip",
    }
    files = {Path(r["data"]["path"]).name for r in records if r["kind"] == "artifact"}
    assert files == {told["file"] for told in forms.values()} | {"result.json"}
    with zipfile.ZipFile(tmp_path / "run/job/attempt-1/stepper_c.zip") as packed:
        assert "orrery_stepper.c" in packed.namelist()


def test_a_stepper_that_cannot_become_c_is_told_why(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, assignment("export", {}, stepper_in(tmp_path)))
    forms = outcome["result"]["formats"]
    assert "error_series" in forms["c"]["refused"]
    assert forms["safetensors"]["file"] == "orrery_stepper.safetensors"


@pytest.mark.slow
def test_advice_names_what_keeps_the_error(tmp_path: Path) -> None:
    given = {"initial_conditions": "kepler", "eccentricity": 0.5, "duration": 20.0}
    point = stepper_in(tmp_path, feature_type="dimensionless")
    outcome, _ = run(tmp_path, assignment("advise", given | {"energy_threshold": 1e-5}, point))
    result = outcome["result"]
    assert outcome["status"] == "succeeded"
    assert result["choice"]["error"] <= 1e-5
    assert "sim." in result["code"] or "use(sim" in result["code"]
    names = [told["name"] for told in result["best_of_each"]]
    assert names[0] == result["choice"]["name"]


def test_advice_without_a_duration_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(SimulationImpossible, match="duration"):
        run(tmp_path, assignment("advise", {"initial_conditions": "kepler"}))
