"""Commands that stop jobs, go on with them, or take them away: one, or many in one request."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbody.config.files import parse_override
from server.cli.connection import (
    EXIT_FAILED,
    AsJson,
    JobsArgument,
    connected,
    errors,
    print_json,
    print_text,
)
from server.wire.states import TERMINAL

if TYPE_CHECKING:
    from server.client import Client

Json = dict[str, Any]

app = typer.Typer()
Status = Annotated[list[str] | None, typer.Option("--status", help="All jobs in this state.")]
Name = Annotated[str | None, typer.Option(help="All jobs of this name; * for any characters.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=TEXT", help="All jobs with this label.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say to which jobs.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until its process is gone.")]


@app.command()
@connected
def cancel(
    client: "Client",
    job_ids: JobsArgument = None,
    status: Status = None,
    name: Name = None,
    labels: Labels = None,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Kill it at once.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs: those that are named, or all with a name, a label, a state."""
    which = _which(job_ids, status, name, labels, dry_run=dry_run)
    if len(job_ids or []) == 1 and not dry_run:
        _show([client.cancel(which["ids"][0], force=force)], client if wait else None, as_json)
    else:
        found = client.act("cancel", **which, force=force)
        _show(found, client if wait else None, as_json)


@app.command()
@connected
def pause(
    client: "Client",
    job_ids: JobsArgument = None,
    status: Status = None,
    name: Name = None,
    labels: Labels = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Pause jobs, by name or as --label and --status say: they keep their state, and no slot."""
    which = _which(job_ids, status, name, labels, dry_run=dry_run)
    if len(job_ids or []) == 1 and not dry_run:
        _show([client.pause(which["ids"][0])], client if wait else None, as_json)
    else:
        _show(client.act("pause", **which), client if wait else None, as_json)


@app.command()
@connected
def resume(
    client: "Client",
    job_ids: JobsArgument = None,
    name: Name = None,
    labels: Labels = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Queue paused jobs again, by name or as --label says; they go on from where they were."""
    which = _which(job_ids, None, name, labels, dry_run=dry_run)
    if len(job_ids or []) == 1 and not dry_run:
        _show([client.resume(which["ids"][0])], None, as_json)
    else:
        _show(client.act("resume", **which), None, as_json)


@app.command()
@connected
def retry(
    client: "Client",
    job_ids: JobsArgument = None,
    status: Status = None,
    name: Name = None,
    labels: Labels = None,
    dry_run: DryRun = False,
    from_checkpoint: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Go on from this checkpoint of the job.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a field, for example epochs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make new jobs from some that are over."""
    changes: Json = {"config": dict(map(parse_override, assignments or []))}
    which = _which(job_ids, status, name, labels, dry_run=dry_run)
    if len(job_ids or []) == 1 and not dry_run:
        if from_checkpoint is not None:
            changes["from_checkpoint"] = from_checkpoint
        job = client.retry(which["ids"][0], **changes)
        print_json(job) if as_json else print_text(job["id"])
        return
    if from_checkpoint is not None:
        raise ValueError("--from-checkpoint is of one job")
    _show(client.act("retry", **which, retry=changes), None, as_json)


@app.command()
@connected
def delete(
    client: "Client",
    job_ids: JobsArgument = None,
    status: Status = None,
    name: Name = None,
    labels: Labels = None,
    dry_run: DryRun = False,
    files: Annotated[bool, typer.Option("--files", help="Its checkpoints and logs, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete jobs that are over."""
    which = _which(job_ids, status, name, labels, dry_run=dry_run)
    if len(job_ids or []) == 1 and not dry_run:
        gone = client.delete(which["ids"][0], files=files)
        left = "" if gone["files"] else "; some of its files are left"
        if not files:
            left = "; its files stay in the data folder (--files deletes them, too)"
        print_json(gone) if as_json else print_text(f"{gone['id']}: deleted{left}")
    else:
        _show(client.act("delete", **which, files=files), None, as_json)


def _which(
    job_ids: list[str] | None,
    status: list[str] | None,
    name: str | None,
    labels: list[str] | None,
    *,
    dry_run: bool,
) -> Json:
    """The jobs that are meant, in the API's words.

    Raises:
        ValueError: none are, or in two ways.
    """
    where: Json = {"status": status, "name": name}
    if labels:
        where["metadata"] = dict(map(label, labels))
    where = {key: value for key, value in where.items() if value}
    if bool(job_ids) == bool(where):
        raise ValueError("say which jobs: JOB…, or --status, --name, --label")
    return ({"ids": job_ids} if job_ids else {"where": where}) | {"dry_run": dry_run}


def label(assignment: str) -> tuple[str, str]:
    """`KEY=TEXT` of a command line."""
    key, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(f"--label {assignment}: use KEY=TEXT")
    return key, text


def _show(jobs: Iterable[Json], waits: "Client | None", as_json: bool) -> None:
    """What became of jobs, a line each; the exit code is 1 where nothing could be done to one.

    Args:
        waits: the client, where their processes are waited for.
    """
    shown: list[Json] = []
    failed = False
    for acted in jobs:
        job = acted
        if waits is not None and not job.get("problem"):
            job = waits.wait(job["id"], until=TERMINAL | {"paused"})
        shown.append(job)
        failed |= bool(job.get("problem"))
        if as_json:
            continue
        if job.get("problem"):
            errors.print(f"{job['id']}: {job['problem']}", highlight=False, markup=False)
        else:
            print_text(f"{job['id']}: {job.get('new_job') or job['status'] or 'deleted'}")
    if as_json:
        print_json(shown[0] if len(shown) == 1 and "object" in shown[0] else shown)
    elif not shown:
        errors.print("no such job", highlight=False)
    if failed:
        raise SystemExit(EXIT_FAILED)
