"""Commands that look at jobs."""

import csv
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from server.cli import tables
from server.cli.connection import (
    EXIT_OF_STATUS,
    AsIds,
    AsJson,
    JobArgument,
    Shown,
    ThoseJobs,
    connected,
    console,
    print_json,
)
from server.cli.instants import since_when
from server.cli.log_lines import print_log

if TYPE_CHECKING:
    from server.client import Client

DEFAULT_KEYS = ["part2/final_pass_rate"]  # that jobs are compared by

app = typer.Typer()
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Most items.")]


@app.command()
@connected
def jobs(
    client: "Client",
    status: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name; * for any characters.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=TEXT", help="Only with this label.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only younger ones: 30m, 12h, 7d or a date.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="CONDITION",
            help="As in 'part2/efficiency:max>0.9'; COLUMN = VALUE.",
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The least first; -COLUMN the largest.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            metavar="COLUMN,…",
            help="Show more: config/FIELD, metadata/KEY, result/FIGURE, METRIC[:best|:min|:max].",
        ),
    ] = None,
    limit: Limit = 20,
    ids: AsIds = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> Shown:
    """List jobs, newest first, or as --sort says."""
    asked = {
        "status": status,
        "kind": kind,
        "name": name,
        "metadata": label,
        "created_after": since and since_when(since, datetime.now().astimezone()),
        "filter": condition,
        "sort": sort,
        "columns": [column for listed in columns or () for column in listed.split(",")],
    }
    asked = {key: value for key, value in asked.items() if value}
    if as_csv:
        lines = client.jobs_as_csv(limit=limit, **asked)
        return Shown(list(csv.DictReader(lines.splitlines())), lines.rstrip("\n"))
    page = client.jobs(limit=limit, **asked)
    return Shown(page, tables.ids_of(page["data"]) if ids else tables.jobs_table(page["data"]))


@app.command()
@connected
def queue(client: "Client", limit: Limit = 100) -> Shown:
    """List waiting jobs, the next one first."""
    page = client.queue(limit=limit)
    return Shown(page, tables.jobs_table(page["data"]))


@app.command()
@connected
def workers(client: "Client") -> Shown:
    """List workers, newest first, and the jobs that they have."""
    page = client.workers()
    return Shown(page, tables.workers_table(page["data"]))


@app.command()
@connected
def audit(
    client: "Client",
    target: Annotated[
        str | None, typer.Option(metavar="ID", help="Only on this job, sweep, token or worker.")
    ] = None,
    limit: Limit = 100,
) -> Shown:
    """List what people did, the latest first; for admins."""
    page = client.audit(limit=limit, **({"target": target} if target else {}))
    return Shown(page, tables.audit_table(page["data"]))


@app.command()
@connected
def show(client: "Client", job_id: JobArgument) -> Shown:
    """Show a job."""
    job = client.job(job_id)
    return Shown(job, tables.whole_job(job))


@app.command()
@connected
def watch(client: "Client", job_id: JobArgument, as_json: AsJson = False) -> None:
    """Follow a job to its end; the exit code tells how it ended."""
    follow(client, job_id, as_json=as_json)


@app.command()
@connected
def wait(
    client: "Client",
    job_id: JobArgument,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Only until so many epochs are done.")
    ] = None,
) -> Shown:
    """Wait until a job is over, or has done so many epochs."""
    job = client.wait(job_id) if epochs is None else client.wait_for_epochs(job_id, epochs)
    return Shown(job, tables.job_line(job))


@app.command()
@connected
def logs(
    client: "Client",
    job_id: JobArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over or paused.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only so many last lines.")] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only lines that it is found in.")
    ] = None,
) -> None:
    """Print what a job's training process printed."""
    print_log(client, job_id, follow=follow, tail=tail, grep=grep)


@app.command()
@connected
def metrics(
    client: "Client",
    job_id: JobArgument,
    key: Annotated[list[str] | None, typer.Option(help="Only these metrics.")] = None,
) -> Shown:
    """Print a job's metrics, one epoch a line."""
    rows = list(client.all_metrics(job_id, **({"keys": key} if key else {})))
    return Shown(rows, tables.metrics_table(rows))


@app.command()
@connected
def compare(
    client: "Client",
    job_ids: ThoseJobs,
    key: Annotated[list[str] | None, typer.Option(help="Metrics.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Last epochs of each.")] = 20,
) -> Shown:
    """Print metrics of several jobs side by side."""
    found = client.compare(job_ids, key or DEFAULT_KEYS, limit=limit)
    return Shown(found, tables.comparison_table(found))


@app.command()
@connected
def attempts(client: "Client", job_id: JobArgument) -> Shown:
    """List who tried a job, when, and how that ended."""
    page = client.attempts(job_id)
    return Shown(page, tables.attempts_table(page["data"]))


@app.command()
@connected
def result(client: "Client", job_id: JobArgument) -> Shown:
    """Print what a job that succeeded found."""
    found = client.result(job_id)
    return Shown(found, tables.result_table({"kind": found["kind"], "result": found["data"]}))


@app.command()
@connected
def failures(client: "Client", job_id: JobArgument) -> Shown:
    """List the held-out states on which a job's stepper fails; retry --train-on learns them."""
    from server.results.failures import violations  # noqa: PLC0415 - not for `--help`
    from server.results.run import Run  # noqa: PLC0415

    found = violations(Run(client, job_id))
    return Shown(found, tables.failures_table(found))


def follow(client: "Client", job_id: str, *, as_json: bool) -> NoReturn:
    """Show a job's progress to its end, and leave with the exit code of how it ended."""
    if as_json:
        job = client.wait(job_id)
        print_json(job)
    else:
        from server.cli import watching  # noqa: PLC0415 - what draws bars is for this alone

        job = watching.watch(client, job_id, console)
        console.print(tables.whole_job(job))
    raise SystemExit(EXIT_OF_STATUS[job["status"]])
