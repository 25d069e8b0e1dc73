"""Commands that stop jobs, go on with them, or take them away: one, or many in one request."""

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
from server.results.naming import job_id_of
from server.wire.states import TERMINAL

if TYPE_CHECKING:
    from server.client import Client

Json = dict[str, Any]
LONGEST_NAME = 200

app = typer.Typer()
Status = Annotated[list[str] | None, typer.Option("--status", help="All jobs in this state.")]
Name = Annotated[str | None, typer.Option(help="All jobs of this name; * for any characters.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=TEXT", help="All jobs with this label.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say to which jobs.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until its process is gone.")]


class Those(NamedTuple):
    """The jobs that a command line means."""

    which: Json  # in the API's words
    one: str | None  # the only one, where it was named

    @classmethod
    def chosen(
        cls,
        job_ids: JobsArgument = None,
        status: Status = None,
        name: Name = None,
        labels: Labels = None,
        dry_run: DryRun = False,
    ) -> "Those":
        """From the options of every command of this file.

        Raises:
            ValueError: no jobs are meant, or in two ways.
        """
        where: Json = {"status": status, "name": name}
        if labels:
            where["metadata"] = dict(map(label, labels))
        where = {key: value for key, value in where.items() if value}
        if bool(job_ids) == bool(where):
            raise ValueError("say which jobs: JOB…, or --status, --name, --label")
        which = {"ids": job_ids} if job_ids else {"where": where}
        one = job_ids[0] if job_ids and len(job_ids) == 1 and not dry_run else None
        return cls(which | {"dry_run": dry_run}, one)


def _on_those(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which jobs; it gets `Those` after the client."""
    client, _, *own = inspect.signature(command).parameters.values()
    choice = list(inspect.signature(Those.chosen).parameters.values())

    def run(client: "Client", **options: Any) -> None:
        those = Those.chosen(**{each.name: options.pop(each.name) for each in choice})
        command(client, those, **options)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__dict__["__signature__"] = inspect.Signature([client, *choice, *own])
    return run


@app.command()
@connected
@_on_those
def cancel(
    client: "Client",
    those: Those,
    force: Annotated[bool, typer.Option("--force", help="Kill it at once.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs: those that are named, or all with a name, a label, a state."""
    if those.one is not None:
        found: Iterable[Json] = [client.cancel(those.one, force=force)]
    else:
        found = client.act("cancel", **those.which, force=force)
    _show(found, client if wait else None, as_json)


@app.command()
@connected
@_on_those
def pause(client: "Client", those: Those, wait: Wait = False, as_json: AsJson = False) -> None:
    """Pause jobs, by name or as --label and --status say: they keep their state, and no slot."""
    one = those.one
    found = client.act("pause", **those.which) if one is None else [client.pause(one)]
    _show(found, client if wait else None, as_json)


@app.command()
@connected
@_on_those
def resume(client: "Client", those: Those, as_json: AsJson = False) -> None:
    """Queue paused jobs again, by name or as --label says; they go on from where they were."""
    one = those.one
    found = client.act("resume", **those.which) if one is None else [client.resume(one)]
    _show(found, None, as_json)


@app.command()
@connected
@_on_those
def retry(
    client: "Client",
    those: Those,
    from_checkpoint: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Go on from this checkpoint of the job.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a field, for example epochs."),
    ] = None,
    train_on: Annotated[
        str | None,
        typer.Option(
            metavar="JOB",
            help="Train also on the held-out states on which the stepper failed, as this job, "
            "the training itself or an evaluation, found.",
        ),
    ] = None,
    new_name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Name of the new job.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make new jobs from some that are over."""
    changes: Json = {"config": dict(map(parse_override, assignments or []))}
    if train_on is not None:
        changes = _with_what_failed(client, those.one, train_on, changes)
    if new_name is not None:
        changes["name"] = new_name
    if those.one is not None:
        if from_checkpoint is not None:
            changes["from_checkpoint"] = from_checkpoint
        job = client.retry(those.one, **changes)
        print_json(job) if as_json else print_text(job["id"])
        return
    if from_checkpoint is not None:
        raise ValueError("--from-checkpoint is of one job")
    _show(client.act("retry", **those.which, retry=changes), None, as_json)


@app.command()
@connected
@_on_those
def delete(
    client: "Client",
    those: Those,
    files: Annotated[bool, typer.Option("--files", help="Its checkpoints and logs, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete jobs that are over."""
    if those.one is not None:
        gone = client.delete(those.one, files=files)
        left = "" if gone["files"] else "; some of its files are left"
        if not files:
            left = "; its files stay in the data folder (--files deletes them, too)"
        print_json(gone) if as_json else print_text(f"{gone['id']}: deleted{left}")
    else:
        _show(client.act("delete", **those.which, files=files), None, as_json)


def _with_what_failed(client: "Client", job_id: str | None, called: str, changes: Json) -> Json:
    """Changes of a retry that trains also on what failed, and another name for the new job."""
    from server.results.failures import training_on  # noqa: PLC0415 - not for `--help`
    from server.results.run import Run  # noqa: PLC0415

    if job_id is None:
        raise ValueError("--train-on is of one job: name it")
    old = Run(client, job_id)
    if old.kind != "train":
        raise ValueError(f"{old.title} trains nothing: it is of kind {old.kind}")
    learned = training_on(Run(client, job_id_of(client, called)), old.job["config"])
    name = f"{old.title}, with what failed"[:LONGEST_NAME]
    return {"name": name, **changes, "config": learned | changes["config"]}


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
            errors.print(f"{job['id']}: {job['problem']}")
        else:
            print_text(f"{job['id']}: {job.get('new_job') or job['status'] or 'deleted'}")
    if as_json:
        print_json(shown[0] if len(shown) == 1 and "object" in shown[0] else shown)
    elif not shown:
        errors.print("no such job")
    if failed:
        raise SystemExit(EXIT_FAILED)
