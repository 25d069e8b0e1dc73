"""`orrery sweep`: search the fields of a config for those that serve an objective best."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbody.config.files import parse_override, read_config_file
from server.cli import tables
from server.cli.connection import (
    EXIT_OF_STATUS,
    HELP,
    AsJson,
    Shown,
    connected,
    print_json,
    print_text,
)

if TYPE_CHECKING:
    from server.client import Client

app = typer.Typer(
    help="Search the fields of a config for the best.", no_args_is_help=True, context_settings=HELP
)
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Most items.")]
SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's id.")]


@app.command()
@connected
def create(
    client: "Client",
    request: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON: space, objective, …; see server/README.md."),
    ],
    config: Annotated[
        Path | None, typer.Option(help="JSON or TOML file with the fields that trials share.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace such a field."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Instead of n_trials.")] = None,
    parallelism: Annotated[int | None, typer.Option(min=1, help="Jobs at a time.")] = None,
) -> Shown:
    """Begin a sweep and print its id."""
    body: dict[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    changes: dict[str, Any] = body.pop("config", {}) | dict(map(parse_override, assignments or []))
    fields = read_config_file(config, changes) if config else changes
    given = {"n_trials": trials, "parallelism": parallelism}
    body |= {key: value for key, value in given.items() if value is not None}
    sweep = client.create_sweep(body.pop("space", {}), fields, **body)
    return Shown(sweep, sweep["id"])


@app.command()
@connected
def watch(client: "Client", sweep_id: SweepArgument, as_json: AsJson = False) -> None:
    """Follow a sweep to its end; the exit code tells how it ended."""
    sweep: dict[str, Any] = {}
    for sweep in client.follow_sweep(sweep_id):
        if not as_json:
            print_text(tables.sweep_line(sweep))
    if as_json:
        print_json(sweep)
    raise SystemExit(EXIT_OF_STATUS[sweep["status"]])


@app.command()
@connected
def best(client: "Client", sweep_id: SweepArgument) -> Shown:
    """Print the job of the best trial so far."""
    trial = client.sweep(sweep_id)["best"]
    if trial is None:
        raise ValueError(f"no trial of {sweep_id} has a value yet")
    return Shown(trial, trial["job_id"])


@app.command("list")
@connected
def show_all(client: "Client", limit: Limit = 20) -> Shown:
    """List sweeps, newest first."""
    page = client.sweeps(limit=limit)
    return Shown(page, tables.sweeps_table(page["data"]))


@app.command()
@connected
def show(client: "Client", sweep_id: SweepArgument) -> Shown:
    """Show a sweep: how far it is, its best trial, and which fields matter."""
    sweep = client.sweep(sweep_id)
    sweep["importance"] = client.importance(sweep_id)["data"]
    return Shown(sweep, tables.whole_sweep(sweep))


@app.command()
@connected
def trials(client: "Client", sweep_id: SweepArgument, limit: Limit = 1000) -> Shown:
    """List a sweep's trials: their jobs, fields and values."""
    page = client.trials(sweep_id, limit=limit)
    return Shown(page, tables.trials_table(page["data"]))


@app.command()
@connected
def cancel(client: "Client", sweep_id: SweepArgument) -> Shown:
    """End a sweep and cancel its jobs."""
    sweep = client.cancel_sweep(sweep_id)
    return Shown(sweep, f"{sweep['id']}: {sweep['status']}")


@app.command()
@connected
def delete(client: "Client", sweep_id: SweepArgument) -> Shown:
    """Delete a sweep that is over; its jobs stay."""
    gone = client.delete_sweep(sweep_id)
    return Shown(gone, f"{gone['id']}: deleted")
