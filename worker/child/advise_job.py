"""Jobs that try how to integrate a system."""

from pathlib import Path
from typing import Any

from nbody.advice.candidates import TrainedStepper
from nbody.advice.report import advice, advice_text
from nbody.errors import SimulationImpossible
from nbody.initial_conditions.from_config import initial_particle
from nbody.native.engine import NativeSystem, in_space
from nbody.watcher import Phase
from server.wire.workers import Assignment
from worker.child.file_records import Artifacts
from worker.child.stepper_jobs import begin, stepper_path, succeed
from worker.child.watcher import ChildWatcher
from worker.spool import SpoolWriter


def advise_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Try integrators on the config's system, the first where there are several; returns the
    outcome, with the choice in its result."""
    config = assignment.config
    begin(config, spool)
    if config.duration is None:
        raise SimulationImpossible("advice needs a duration: the time to integrate")
    if config.external_field_mass is not None:
        raise SimulationImpossible("no external field is known to the integrators that are tried")
    watcher.phase(Phase.SIMULATE)
    batch = initial_particle(config, seed=config.seed or 0, data_folder=data).batched()
    sign = 1.0 if config.duration > 0 else -1.0  # backward is forward with velocities turned around
    system = NativeSystem(
        batch.mass[0].double().numpy(),
        in_space(batch.position[0].double().numpy()),
        in_space(sign * batch.velocity[0].double().numpy()),
        config.softening,
    )
    steppers: list[TrainedStepper] = []
    if assignment.must_resume:
        stepper = TrainedStepper.load(stepper_path(assignment, data))
        steppers.append(stepper._replace(name="stepper.pt"))  # its path here is no path elsewhere

    def tell(text: str) -> None:
        print(text, flush=True)

    span, error = abs(config.duration), config.energy_threshold
    found = advice(system, span, error, steppers, tell=tell, tick=watcher.tick)
    print(advice_text(found), flush=True)
    return succeed(found, Artifacts(assignment, data, spool))
