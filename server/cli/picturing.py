"""Commands that draw jobs, and pack them for a paper; no browser is needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.connection import JobArgument, JobsArgument, Shown, ThoseJobs, connected, errors
from server.cli.exits import EXIT_FAILED, EXIT_USAGE, CommandFailed

if TYPE_CHECKING:
    from server.client import Client

MOST_TOLD = 20  # numbers that differ
IMAGES = (".svg", ".pdf", ".png")

app = typer.Typer()


@app.command()
@connected
def plot(
    client: "Client",
    job_ids: ThoseJobs,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="An svg, pdf or png file.")
    ],
    key: Annotated[
        list[str] | None, typer.Option(metavar="METRIC", help="Only this metric; can be repeated.")
    ] = None,
) -> Shown:
    """Draw jobs: curves of trainings, scores on held-out systems, orbits and energy errors."""
    from server.results.drawing import draw_panels, panels_of  # noqa: PLC0415 - not for `--help`
    from server.results.run import Run  # noqa: PLC0415

    _check_target(output, IMAGES)
    figure = draw_panels(panels_of([Run(client, each) for each in job_ids], key))
    figure.savefig(output, dpi=200)
    return Shown({"file": str(output)}, str(output))


@app.command()
@connected
def movie(
    client: "Client",
    job_id: JobArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="An mp4 or gif file.")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long it lasts.")] = 10.0,
    rate: Annotated[int, typer.Option(min=1, max=60, help="Pictures a second.")] = 30,
) -> Shown:
    """Draw a simulation as a film: bodies, and the steps that they took, by colour."""
    from server.results.films import FORMATS, film  # noqa: PLC0415
    from server.results.run import Run  # noqa: PLC0415

    _check_target(output, FORMATS)
    film(Run(client, job_id), output, seconds=seconds, rate=rate)
    return Shown({"file": str(output)}, str(output))


@app.command()
@connected
def bundle(
    client: "Client",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The zip file to write.")
    ],
    job_ids: JobsArgument = None,
    title: Annotated[str, typer.Option(help="Of the bundle.")] = "Results",
    again: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE", help="Run the jobs of this bundle again, and compare every number."
        ),
    ] = None,
) -> Shown:
    """Pack jobs for a paper: figures, tables, configs, seeds, versions, checkpoints, citation."""
    if (again is None) == (not job_ids):
        raise CommandFailed("name jobs, or --again BUNDLE", EXIT_USAGE)
    _check_target(output, (".zip",))
    if again is None:
        from server.results.bundle import write_bundle  # noqa: PLC0415

        manifest = write_bundle(client, job_ids or [], output, title)
        return Shown({"file": str(output), "files": manifest["files"]}, str(output))
    return _make_again(client, again, output)


def _check_target(path: Path, endings: Sequence[str]) -> None:
    """Look before all the work whether its file can be written.

    Raises:
        CommandFailed: it cannot.
    """
    if path.suffix not in endings:
        raise CommandFailed(
            f"{path.name}: use a name that ends in {', '.join(endings)}", EXIT_USAGE
        )
    if not path.parent.is_dir():
        raise CommandFailed(f"there is no folder {path.parent} for {path.name}", EXIT_USAGE)


def _make_again(client: "Client", bundle: Path, output: Path) -> Shown:
    from server.results.again import make_again  # noqa: PLC0415

    found = make_again(client, bundle, output, errors.print)
    if found:
        lines = [f"{each.job}: {each.place}: {each.was} → {each.now}" for each in found]
        more = [f"… and {len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else []
        told = "\n  ".join([f"{len(found)} numbers differ:", *lines[:MOST_TOLD], *more])
        raise CommandFailed(told, EXIT_FAILED)
    same = "every number is what it was"
    return Shown({"file": str(output), "differences": []}, f"{output}: {same}")
