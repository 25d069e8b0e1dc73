"""Commands that list what jobs leave as files, and take them home."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli import tables
from server.cli.connection import (
    AsIds,
    JobArgument,
    Shown,
    ThoseJobs,
    connected,
    errors,
)

if TYPE_CHECKING:
    from server.client import Client

app = typer.Typer()


@app.command()
@connected
def checkpoints(
    client: "Client",
    job_id: JobArgument,
    download: Annotated[
        Path | None, typer.Option(help="Save the files in this folder.", metavar="FOLDER")
    ] = None,
    ids: AsIds = False,
) -> Shown:
    """List a job's checkpoints, or download them."""
    from server.results.run import Run  # noqa: PLC0415 - not for `--help`

    found = Run(client, job_id).checkpoints
    if download is not None:
        _save(client, {download / Path(file["path"]).name: file["id"] for file in found})
    return Shown(found, tables.ids_of(found) if ids else tables.checkpoints_table(found))


@app.command()
@connected
def artifacts(
    client: "Client",
    job_id: JobArgument,
    download: Annotated[
        Path | None, typer.Option(help="Save the files in this folder.", metavar="FOLDER")
    ] = None,
) -> Shown:
    """List the files of a simulation or an evaluation, or download them."""
    from server.results.run import Run  # noqa: PLC0415

    found = list(Run(client, job_id).artifacts.values())
    if download is not None:
        _save(client, {download / file["name"]: file["id"] for file in found})
    return Shown(found, tables.artifacts_table(found))


@app.command()
@connected
def files(
    client: "Client",
    delete: Annotated[
        list[str] | None,
        typer.Option("--delete", metavar="ID", help="Delete this one first; can be repeated."),
    ] = None,
) -> Shown:
    """List the files of initial conditions that you sent (`orrery upload`), or delete some."""
    from server.results.run import every_item  # noqa: PLC0415 - not for `--help`

    for file_id in delete or []:
        client.delete_file(file_id)
        errors.print(f"{file_id}: deleted")
    found = list(every_item(client.files))
    return Shown(found, tables.sent_files_table(found))


@app.command()
@connected
def download(
    client: "Client",
    job_ids: ThoseJobs,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Each job in a folder of its own there.")
    ] = Path(),
) -> Shown:
    """Take all files of jobs home: checkpoints, results, configs, metrics, logs."""
    from server.results.run import Run  # noqa: PLC0415 - not for `--help`
    from server.results.taking_home import take_home  # noqa: PLC0415

    folders: list[str] = []
    for each in job_ids:
        run = Run(client, each)
        for path in take_home(run, to / run.folder_name):
            errors.print(str(path), soft_wrap=True)
        folders.append(str(to / run.folder_name))
    return Shown({"folders": folders}, "\n".join(folders))


def _save(client: "Client", files: dict[Path, str]) -> None:
    for target, file_id in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        errors.print(str(client.download(file_id, target)))
