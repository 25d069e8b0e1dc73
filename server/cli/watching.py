"""How the command line follows a job to its end."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nbody.epoch_line import epoch_line
from server.cli.connection import errors
from server.cli.tables import Json
from server.wire.states import TERMINAL

if TYPE_CHECKING:
    from server.client import Client

POLL_S = 1.0


def watch(client: "Client", job_id: str, console: Console) -> Json:
    """Follow a job to its end: a live bar on a terminal, a line per epoch elsewhere."""
    client.job(job_id)  # where nobody answers at all, there is nothing to wait for
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    last_epoch, last_status = -1, ""
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with client.over_restarts(_tell_absence), bar as progress:
        task = progress.add_task(job_id, total=None, metrics="")
        version: str | None = None
        while True:
            parameters = {} if version is None else {"wait": POLL_S, "version": version}
            job, version = client.job_with_version(job_id, **parameters)
            if job["status"] != last_status and not console.is_terminal:
                console.print(f"{job_id}: {job['status']}")
            last_status = job["status"]
            page = client.metrics(job_id, after=last_epoch)
            if not console.is_terminal:
                for row in page["data"]:
                    line = epoch_line(row, job["progress"]["epochs_total"])
                    console.print(line)
            last_epoch = last_epoch if page["last_epoch"] is None else page["last_epoch"]
            _show(progress, task, job)
            if last_status in TERMINAL and not page["has_more"]:
                return job


def _tell_absence(why: str) -> None:
    errors.print(f"the server is away ({why}); waiting for it")


def _show(progress: Progress, task: TaskID, job: Json) -> None:
    latest = job["latest_metrics"]
    shown = ""
    if latest is not None:
        shown = f"{latest['part2/final_pass_rate']:.1%} pass"
    where = f" ({job['phase']})" if job["phase"] else ""
    progress.update(
        task,
        total=job["progress"]["epochs_total"],
        completed=job["progress"]["epochs_done"],
        description=f"{job['name'] or job['id']}: {job['status']}{where}",
        metrics=shown,
    )
