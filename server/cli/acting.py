"""Commands that do something to jobs."""

import contextlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbody.config.files import STDIN, parse_override, read_config_file
from nbody.config.systems import IC_FILES
from nbody.errors import InvalidInitialConditions
from server.cli import tables
from server.cli.connection import (
    AsJson,
    JobArgument,
    Shown,
    connected,
    errors,
    explain_invalid,
    print_json,
    print_text,
)
from server.cli.moving import label
from server.cli.provenance import git_commit
from server.cli.reading import follow
from server.results.naming import job_id_of

if TYPE_CHECKING:
    from nbody.config import Config
    from server.client import Client

app = typer.Typer()
Watch = Annotated[bool, typer.Option("--watch", help="Follow it to its end.")]
Name = Annotated[str | None, typer.Option(help="Name of the job.")]
Epoch = Annotated[str | None, typer.Option(help="Of the checkpoint, or `best`; default: the last.")]
Replaced = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the training's config."),
]

Initial = Annotated[
    Path | None,
    typer.Option(
        "--initial-conditions",
        "--ic",
        metavar="FILE",
        help="Send this file of initial conditions, and begin with it.",
    ),
]


@app.command()
@connected
def submit(
    client: "Client",
    configs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG…", help="JSON or TOML files, ours or AITimeStepper's; - is the input."
        ),
    ],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field.")
    ] = None,
    initial: Initial = None,
    name: Name = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Higher runs first.")
    ] = None,
    max_runtime: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop it after so long.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(metavar="N", help="Attempts, where workers are lost.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Repeats with the same key make no second job."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=TEXT", help="Can be repeated.")
    ] = None,
    requires: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="KEY=TEXT",
            help="Only workers with this label (`orrery work --label`). Can be repeated.",
        ),
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory", metavar="GIB", min=0, help="Only workers with a GPU of so much; 0: any."
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Who is told when the job is over: https://…, slack+https://…, matrix+https://…, "
            "mailto:NAME@HOST.",
        ),
    ] = None,
    then_simulate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Once trained, simulate with it, with this field replaced."
        ),
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Submit training jobs, one for each config; nothing is submitted where one is wrong.

    The label `git` says of which commit a config file is, where it is of one, and no key is given.
    """
    if len(configs) > 1 and (watch or idempotency_key):
        raise ValueError("--watch and --idempotency-key are of one job")
    changes = dict(map(parse_override, assignments or []))
    read = [_read(path, changes, initial) for path in configs]
    sent = _sent(client, initial)
    read = [(fields | sent, warned) for fields, warned in read]
    given = {
        "name": name,
        "webhook": webhook,
        "priority": priority,
        "max_runtime_s": max_runtime,
        "max_attempts": max_attempts,
    }
    own_labels = dict(map(label, labels or []))
    options: dict[str, Any] = {
        key: value for key, value in given.items() if value not in (None, "")
    }
    needs: dict[str, Any] = {} if gpu_memory is None else _gpu_of(gpu_memory)
    if requires:
        needs["labels"] = dict(map(label, requires))
    if needs:
        options["requires"] = needs
    if then_simulate:
        options["simulate"] = dict(map(parse_override, then_simulate))
    for path, (fields, warned) in zip(configs, read, strict=True):
        # A repeat with the same key is the same request, whatever became of the folder.
        commit = None if idempotency_key or path == STDIN else git_commit(path)
        of_git = {"git": commit} if commit else {}
        labelled: dict[str, Any] = {**options, "metadata": of_git | own_labels}
        job = client.submit(fields, idempotency_key, **labelled)
        for text in [*warned, *job["warnings"]]:
            errors.print(f"warning: {text}")
        _show_new(client, job, watch=watch, as_json=as_json)


def _gpu_of(gib: float) -> dict[str, Any]:
    return {"gpus": 1, "gpu_memory": int(min(gib * 2**30, 2**50))}


@app.command()
@connected
def simulate(
    client: "Client",
    job_id: Annotated[
        str | None,
        typer.Argument(metavar="[JOB|FILE]", help="Whose trained stepper to use, or its file."),
    ] = None,
    epoch: Epoch = None,
    config: Annotated[
        Path | None, typer.Option(help="JSON or TOML file with fields of the simulation.")
    ] = None,
    assignments: Replaced = None,
    initial: Initial = None,
    name: Name = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Simulate on a worker, with a trained stepper or, without one, with a classical rule.

    A checkpoint file, Orrery's or AITimeStepper's, is sent to the server first.
    """
    changes = dict(map(parse_override, assignments or []))
    fields = read_config_file(config, changes, "simulate") if config else changes
    fields = _without_system(fields, initial) | _sent(client, initial)
    options = _stepper(client, job_id, epoch) | ({"name": name} if name else {})
    job = client.submit(fields, kind="simulate", **options)
    _show_new(client, job, watch=watch, as_json=as_json)


@app.command()
@connected
def evaluate_job(
    client: "Client",
    job_id: Annotated[
        str, typer.Argument(metavar="JOB|FILE", help="Whose trained stepper, or its file.")
    ],
    epoch: Epoch = None,
    assignments: Replaced = None,
    name: Name = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Score a stepper on a worker, on held-out systems beside every criterion in use."""
    options = _stepper(client, job_id, epoch) | ({"name": name} if name else {})
    fields = dict(map(parse_override, assignments or []))
    job = client.submit(fields, kind="evaluate", **options)
    _show_new(client, job, watch=watch, as_json=as_json)


@app.command()
@connected
def export_job(
    client: "Client",
    job_id: Annotated[
        str, typer.Argument(metavar="JOB|FILE", help="Whose trained stepper, or its file.")
    ],
    epoch: Epoch = None,
    name: Name = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Turn a stepper into C, Fortran, a REBOUND integrator, ONNX, safetensors, on a worker.

    `orrery artifacts JOB --download FOLDER` takes the files; `orrery result JOB` says which there
    are, and why others are not.
    """
    options = _stepper(client, job_id, epoch) | ({"name": name} if name else {})
    _show_new(client, client.submit({}, kind="export", **options), watch=watch, as_json=as_json)


@app.command()
@connected
def advise_job(
    client: "Client",
    job_id: Annotated[
        str | None,
        typer.Argument(metavar="[JOB|FILE]", help="Whose trained stepper to try, or its file."),
    ] = None,
    epoch: Epoch = None,
    config: Annotated[
        Path | None, typer.Option(help="JSON or TOML file with fields of the system.")
    ] = None,
    assignments: Replaced = None,
    initial: Initial = None,
    name: Name = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Try integrators on a system, on a worker: the fastest that keeps the energy error.

    `duration` is the time to integrate, `energy_threshold` the largest energy error.
    """
    changes = dict(map(parse_override, assignments or []))
    fields = read_config_file(config, changes, "simulate") if config else changes
    fields = _without_system(fields, initial) | _sent(client, initial)
    options = _stepper(client, job_id, epoch) | ({"name": name} if name else {})
    _show_new(client, client.submit(fields, kind="advise", **options), watch=watch, as_json=as_json)


@app.command()
@connected
def upload(
    client: "Client",
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint, Orrery's or AITimeStepper's; or initial conditions."),
    ],
    name: Name = None,
) -> Shown:
    """Send a checkpoint, or a file of initial conditions.

    What is printed serves as JOB for simulate and evaluate-job; or as `ic_path` of a config, with
    `initial_conditions` "file" (`orrery submit --initial-conditions` does both at once).
    """
    if file.suffix.lower() in IC_FILES:
        sent = client.send_initial_conditions(file, name)
        return Shown(sent, sent["path"])
    checkpoint = client.upload(file, name)
    return Shown(checkpoint, checkpoint["job_id"])


@app.command()
@connected
def validate(
    client: "Client",
    config: Annotated[Path, typer.Argument(help="JSON or TOML file, ours or AITimeStepper's.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field.")
    ] = None,
    initial: Initial = None,
) -> Shown:
    """Say what would run, how large it is, and what is wrong; nothing is stored, but for a file of
    initial conditions.
    """
    changes = dict(map(parse_override, assignments or []))
    fields, warned = _read(config, changes, initial)
    for text in warned:
        errors.print(f"warning: {text}")
    report = client.validate(fields | _sent(client, initial))
    return Shown(report, tables.validation(report))


@app.command()
@connected
def change(
    client: "Client",
    job_id: JobArgument,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Higher runs first.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=TEXT", help="Replace all labels; can be repeated."),
    ] = None,
    add_labels: Annotated[
        list[str] | None,
        typer.Option("--add-label", metavar="KEY=TEXT", help="Set this label; others stay."),
    ] = None,
    remove_labels: Annotated[
        list[str] | None,
        typer.Option("--remove-label", metavar="KEY", help="Take this label away."),
    ] = None,
) -> Shown:
    """Change a job's name, priority or labels."""
    given = {"name": name, "priority": priority}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if labels is not None:
        changes["metadata"] = dict(map(label, labels))
    if add_labels:
        changes["add_metadata"] = dict(map(label, add_labels))
    if remove_labels:
        changes["remove_metadata"] = remove_labels
    if not changes:
        raise ValueError("say what to change: --name, --priority, --label, --add-label or others")
    job = client.change(job_id, **changes)
    return Shown(job, tables.job_table(job))


@app.command()
@connected
def notes(
    client: "Client",
    job_id: JobArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="New notes; - is the input.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Below those that are there, not instead of them.")
    ] = False,
) -> Shown:
    """Show what was written down about a job, or write it."""
    job = client.job(job_id)
    if text is None:
        return Shown({"id": job["id"], "notes": job["notes"]}, job["notes"])
    given = sys.stdin.read().rstrip("\n") if text == str(STDIN) else text
    whole = f"{job['notes']}\n{given}" if append and job["notes"] else given
    job = client.change(job_id, notes=whole)
    return Shown({"id": job["id"], "notes": job["notes"]}, job["notes"])


@app.command()
@connected
def drain(
    client: "Client",
    worker_id: Annotated[str, typer.Argument(metavar="WORKER", help="A worker's id.")],
    undo: Annotated[bool, typer.Option("--undo", help="Give it jobs again.")] = False,
) -> Shown:
    """Give a worker no more jobs; those that it has go on to their end."""
    worker = client.drain(worker_id, draining=not undo)
    return Shown(worker, tables.workers_table([worker]))


def _sent(client: "Client", initial: Path | None) -> dict[str, Any]:
    """The fields that begin with a file, which is sent; none where there is none."""
    return {} if initial is None else _begins_with(client.send_initial_conditions(initial)["path"])


def _begins_with(path: str) -> dict[str, Any]:
    return {"initial_conditions": "file", "ic_path": path}


def _without_system(fields: dict[str, Any], initial: Any) -> dict[str, Any]:
    """What of a config stays, where it is to begin with a file."""
    from nbody.config.populations import OF_A_POPULATION  # noqa: PLC0415 - it imports pydantic

    if not initial:
        return fields
    return {name: value for name, value in fields.items() if name not in OF_A_POPULATION}


def _read(
    path: Path, changes: dict[str, Any], initial: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The fields of a config, and what was warned of as it was read.

    Args:
        initial: a file that it is to begin with, instead of what it says.

    Raises:
        CommandFailed: it is wrong.
    """
    from nbody.config import Config  # noqa: PLC0415 - only here, and it takes as long as all else

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fields = read_config_file(path, changes)
    told = [str(warning.message) for warning in caught]
    if initial is not None:  # as if it had been sent
        begins = _begins_with(f"file{initial.suffix.lower()}")
        fields = _without_system(fields, initial) | begins
    with explain_invalid():
        config = Config.model_validate(fields)
    return fields, told if initial is None else [*told, *_doubts(initial, config)]


def _doubts(initial: Path, config: "Config") -> list[str]:
    """What is strange about the rows of a file; what is wrong with it, the server says."""
    from nbody.config.particle_file import read_particles  # noqa: PLC0415 - it imports numpy
    from nbody.config.plausibility import doubts  # noqa: PLC0415

    with contextlib.suppress(InvalidInitialConditions, OSError):
        rows = read_particles(initial, config.newton)
        return [f"{initial.name}: {doubt}" for doubt in doubts(rows, config.newton, config.dt)]
    return []


def _stepper(client: "Client", stepper: str | None, epoch: str | None) -> dict[str, Any]:
    """What a submission says of its stepper, whose file is sent where it is one."""
    is_file = stepper is not None and (stepper.endswith(".pt") or Path(stepper).exists())
    if epoch is not None and (stepper is None or is_file):
        raise ValueError("--epoch is of a job's checkpoint: name the JOB, too")
    if stepper is None:
        return {}
    job_id = client.upload(Path(stepper))["job_id"] if is_file else job_id_of(client, stepper)
    if epoch is None or epoch == "best":
        return {"stepper": {"job": job_id} | ({"epoch": epoch} if epoch else {})}
    if not epoch.isdecimal():
        raise ValueError(f"--epoch is a number, or best; not {epoch!r}")
    return {"stepper": {"job": job_id, "epoch": int(epoch)}}


def _show_new(client: "Client", job: dict[str, Any], *, watch: bool, as_json: bool) -> None:
    """Say a new job's id, and what it waits for; follow it where that is asked for."""
    if job["waits_for"]:
        errors.print(f"it waits for {job['waits_for']}")
    if watch:
        if not as_json:
            errors.print(job["id"])
        follow(client, job["id"], as_json=as_json)
    print_json(job) if as_json else print_text(job["id"])
