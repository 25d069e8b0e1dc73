"""Jobs that make files for other programs of a trained stepper."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from nbody.errors import NotCompilable, NotExportable
from nbody.export.formats import FORMATS, ExportFormat, export_stepper
from nbody.stepper import Stepper
from nbody.watcher import Phase
from server.wire.workers import Assignment
from worker.child.file_records import Artifacts
from worker.child.stepper_jobs import begin, stepper_of, succeed
from worker.child.watcher import ChildWatcher
from worker.spool import SpoolWriter


def export_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Write a stepper in every form that it can have; returns the outcome, with the file of each
    form, or why there is none."""
    begin(assignment.config, spool)
    stepper = stepper_of(assignment, data)
    watcher.phase(Phase.SIMULATE)
    artifacts = Artifacts(assignment, data, spool)
    found: dict[str, Any] = {}
    for form in FORMATS:
        found[form] = _exported(stepper, form, artifacts)
        watcher.tick()
    return succeed({"formats": found}, artifacts)


def _exported(stepper: Stepper, form: ExportFormat, artifacts: Artifacts) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = export_stepper(stepper, form, Path(folder) / "stepper")
        except (NotCompilable, NotExportable) as error:
            return {"refused": str(error)}
        if len(paths) == 1:
            name = paths[0].name
            artifacts.keep(name, lambda path: shutil.copyfile(paths[0], path))
        else:
            name = f"stepper_{form}.zip"
            packed = shutil.make_archive(str(Path(folder) / "packed"), "zip", paths[0].parent)
            artifacts.keep(name, lambda path: shutil.copyfile(packed, path))
    return {"file": name}
