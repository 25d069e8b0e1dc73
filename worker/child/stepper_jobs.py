"""Jobs that use a stepper: simulate with it, or score it. What they find is a result and files."""

from pathlib import Path
from typing import Any

from nbody.config import Config
from nbody.config.size import evaluated_systems
from nbody.device import resolve_device
from nbody.durable_file import is_file_of
from nbody.errors import CheckpointUnreadable
from nbody.evaluation.beside_criteria import beside_criteria, factors_of, network_and_criteria
from nbody.evaluation.close_look import close_look
from nbody.evaluation.score import held_out_for, score_all
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.orbit import orbit_of
from nbody.simulation.run import simulate
from nbody.stepper import Stepper, load_stepper
from nbody.watcher import Phase
from server.wire.states import StopReason
from server.wire.workers import Assignment
from worker.child.file_records import Artifacts, replace_nonfinite
from worker.child.looks import keep_look
from worker.child.watcher import ChildWatcher
from worker.child.whereabouts import whereabouts
from worker.spool import SpoolWriter

LEAST_SYSTEMS = 2  # that a score is made of


def simulate_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Integrate what the config names; returns the outcome, what was conserved in its result."""
    config = assignment.config
    begin(config, spool)
    stepper = stepper_of(assignment, data) if assignment.must_resume else None
    print(f"{config.initial_conditions}, rule {config.integrator_mode}", flush=True)
    watcher.phase(Phase.SIMULATE)
    particle = initial_particle(config, seed=config.seed or 0, data_folder=data)
    run = simulate(config, particle, stepper, watcher=watcher)
    artifacts = Artifacts(assignment, data, spool)
    artifacts.keep("simulation.npz", lambda path: run.save(path))
    artifacts.keep_json("orbit.json", orbit_of(run))
    return succeed(run.report(), artifacts)


def evaluate_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Score a stepper on held-out systems beside every criterion; returns the outcome."""
    config = assignment.config
    begin(config, spool)
    stepper = stepper_of(assignment, data)
    watcher.phase(Phase.EVALUATE)
    systems = max(evaluated_systems(config), LEAST_SYSTEMS)
    seed = config.seed or 0
    held_out = held_out_for(
        stepper, config, seed=seed, systems=systems, data_folder=data, watcher=watcher
    )
    rules = network_and_criteria(stepper)
    scores = score_all(rules, held_out, watcher)
    artifacts = Artifacts(assignment, data, spool)
    look = close_look(held_out, rules, factors_of(scores), newton=config.newton)
    keep_look(look, artifacts, picture=config.wandb)
    found = beside_criteria(stepper, config, held_out, scores, look["by_eccentricity"])
    return succeed({"seed": seed, **found}, artifacts)


def begin(config: Config, spool: SpoolWriter) -> None:
    """The first record of a job without epochs."""
    place = whereabouts(config.seed or 0, resolve_device(config))
    spool.append("begin", {"first_epoch": 0, "whereabouts": place})


def succeed(found: dict[str, Any], artifacts: Artifacts) -> dict[str, Any]:
    """The outcome of a job that found something, which is kept as a file, too."""
    artifacts.keep_json("result.json", found, indent=2)
    result = replace_nonfinite(found)
    return {"status": "succeeded", "stop_reason": StopReason.COMPLETED, "result": result}


def stepper_of(assignment: Assignment, data: Path) -> Stepper:
    """The stepper that was named.

    Raises:
        CheckpointUnreadable
    """
    config = assignment.config
    path = stepper_path(assignment, data)
    return load_stepper(path, resolve_device(config), compiled=config.compile)


def stepper_path(assignment: Assignment, data: Path) -> Path:
    """The file of the stepper that was named, if it is what it was.

    Raises:
        CheckpointUnreadable
    """
    if not assignment.resume_from:
        raise CheckpointUnreadable("of the stepper", "it was deleted; choose another one")
    point = assignment.resume_from[-1]
    path = data / point.path
    if not is_file_of(path, point.sha256):
        raise CheckpointUnreadable(point.path, "it is gone or damaged; choose another one")
    print(f"stepper {point.path}", flush=True)
    return path
