"""Jobs that use a stepper: simulate with it, or score it. What they find is a result and files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbody.config import Config
from nbody.config.size import evaluated_systems
from nbody.device import resolve_device
from nbody.durable_file import write_durably
from nbody.errors import CheckpointUnreadable
from nbody.evaluation.beside_criteria import evaluate_beside_criteria
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.run import simulate
from nbody.stepper import Stepper, load_stepper
from nbody.watcher import Phase
from server.wire.states import StopReason
from server.wire.workers import Assignment
from worker.child.file_records import describe_file, replace_nonfinite, sha256
from worker.child.watcher import ChildWatcher
from worker.child.whereabouts import whereabouts
from worker.spool import SpoolWriter

LEAST_SYSTEMS = 2  # that a score is made of


def simulate_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Integrate what the config names; returns the outcome, what was conserved in its result."""
    config = assignment.config
    _begin(config, spool)
    stepper = _stepper(assignment, data) if assignment.must_resume else None
    print(f"{config.initial_conditions}, rule {config.integrator_mode}", flush=True)
    watcher.phase(Phase.SIMULATE)
    particle = initial_particle(config, seed=config.seed or 0, data_folder=data)
    run = simulate(config, particle, stepper, watcher=watcher)
    _keep("simulation.npz", lambda path: run.save(path), assignment, data, spool)
    return _succeed(run.report(), assignment, data, spool)


def evaluate_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Score a stepper on held-out systems beside every criterion; returns the outcome."""
    config = assignment.config
    _begin(config, spool)
    stepper = _stepper(assignment, data)
    watcher.phase(Phase.EVALUATE)
    systems = max(evaluated_systems(config), LEAST_SYSTEMS)
    seed = config.seed or 0
    scores = evaluate_beside_criteria(
        stepper, config, seed=seed, systems=systems, data_folder=data, watcher=watcher
    )
    return _succeed(scores, assignment, data, spool)


def _begin(config: Config, spool: SpoolWriter) -> None:
    place = whereabouts(config.seed or 0, resolve_device(config))
    spool.append("begin", {"first_epoch": 0, "whereabouts": place})


def _succeed(
    found: dict[str, Any], assignment: Assignment, data: Path, spool: SpoolWriter
) -> dict[str, Any]:
    result = replace_nonfinite(found)
    text = json.dumps(result, indent=2)
    _keep("result.json", lambda path: path.write_text(text), assignment, data, spool)
    return {"status": "succeeded", "stop_reason": StopReason.COMPLETED, "result": result}


def _keep(
    name: str,
    write: Callable[[Path], object],
    assignment: Assignment,
    data: Path,
    spool: SpoolWriter,
) -> None:
    """A file of the attempt: durable first, then its record."""
    path = write_durably(data / assignment.output_folder / name, write)
    spool.append("artifact", describe_file(path, data))


def _stepper(assignment: Assignment, data: Path) -> Stepper:
    """The stepper that was named, if its file is what it was.

    Raises:
        CheckpointUnreadable
    """
    if not assignment.resume_from:
        raise CheckpointUnreadable("of the stepper", "it was deleted; choose another one")
    point = assignment.resume_from[-1]
    path = data / point.path
    if not path.is_file() or sha256(path) != point.sha256:
        raise CheckpointUnreadable(point.path, "it is gone or damaged; choose another one")
    print(f"stepper {point.path}", flush=True)
    config = assignment.config
    return load_stepper(path, resolve_device(config), compiled=config.compile)
