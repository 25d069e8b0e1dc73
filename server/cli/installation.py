"""Commands for this machine's own installation: run it, look at it, copy its database.

What a command needs of the server is imported by the command itself: those that only talk to a
server start without it.
"""

import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nbody.config.files import read_config_file
from server.cli import tables
from server.cli.connection import (
    DEFAULT_URL,
    EXIT_FAILED,
    EXIT_OF_STATUS,
    EXIT_USAGE,
    AsJson,
    CommandFailed,
    connect,
    console,
    errors,
    explain_invalid,
    open_client,
    print_json,
    print_text,
)

if TYPE_CHECKING:
    from server.cli.local_service import LocalService
    from server.settings import ServerSettings

START_TIMEOUT_S = 60.0
DEMO = "kepler_demo"
# Allocations, and collections of the younger generation: few at a time, for the loop stands still.
COLLECT_AFTER = 2_000, 50, 50

app = typer.Typer()


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Train the Kepler demo, then stop.")] = False,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Workers to start.")] = 1,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one, as --demo does.", min=0)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    auth: Annotated[bool | None, typer.Option(help="Ask for tokens.")] = None,
) -> None:
    """Start a server and workers on this machine, and keep them running.

    What is not given comes from ORRERY_… variables.
    """
    from server.cli.local_service import (
        LocalService,
        check_port,
        free_port,
        ignore_hangups,
        on_termination,
    )
    from server.service import prepare

    settings = _settings(host=host, port=port, data=data, auth=auth)
    if settings.socket is not None:
        what = "ORRERY_SOCKET is of `orrery serve`; `orrery up` listens on a port"
        raise CommandFailed(what, EXIT_USAGE)
    if settings.port == 0 or (demo and port is None):
        settings = settings.model_copy(update={"port": free_port(settings.host)})
    with _damage_told():
        prepare(settings).release()  # the server is to have it
    check_port(settings.host, settings.port)
    on_termination(_interrupt)
    ignore_hangups()
    with LocalService(settings, max(workers, 1) if demo else workers) as service:
        service.start_server()
        service.wait_until_ready(START_TIMEOUT_S)
        service.start_workers()
        errors.print(f"server  {service.url}")
        errors.print(f"token   {settings.admin_token_path}")
        errors.print(_where_to_sign_in(service.url, settings))
        if demo:
            code = _demo(service, settings)
        else:
            errors.print("Ctrl-C stops it")
            code = service.wait()
    raise SystemExit(code)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port.")] = None,
    socket: Annotated[
        Path | None, typer.Option(help="Unix socket to listen on instead, for a proxy.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    auth: Annotated[bool | None, typer.Option(help="Ask for tokens.")] = None,
) -> None:
    """Run the server alone. What is not given comes from ORRERY_… variables."""
    import logging

    from server.cli.local_service import check_port, check_socket, ignore_hangups
    from server.known_variables import misspelt
    from server.log_format import configure
    from server.service import Service, prepare
    from server.web.app import create_app
    from server.web.listening.protocol import Listener, uvicorn_config

    settings = _settings(host=host, port=port, socket=socket, data=data, auth=auth)
    configure(settings.log_format)
    for sentence in misspelt(os.environ).values():
        logging.getLogger("server").warning("%s", sentence)
    with _damage_told():
        lock = prepare(settings)
    if settings.socket is not None:
        check_socket(settings.socket)
    elif settings.port:
        check_port(settings.host, settings.port)
    service = Service(settings, lock)
    config = uvicorn_config(settings, create_app(settings, service))
    ignore_hangups()
    # What is loaded by now stays for ever: no need to look through it for garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    Listener(config, service.changes.end).run()


@app.command()
def work(
    url: Annotated[
        str | None,
        typer.Option("--url", "--server", envvar="ORRERY_URL", help="Address of the server."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="ORRERY_DATA",
            help="Data folder: the server's, or any other one, to and from which files are sent.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ORRERY_WORKER_TOKEN_FILE",
            help="File with a worker's token; default: DATA/.orrery/worker.token.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            envvar="ORRERY_WORKER_NAME",
            help="One worker a name and data folder; worker-* is the first of worker-1, worker-2, "
            "… that none has. Default: the host's.",
        ),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=64, envvar="ORRERY_SLOTS", help="Jobs at a time.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=0,
            envvar="ORRERY_THREADS",
            help="Most CPU threads of each job, which takes fewer while other processes are busy; "
            "0 shares the cores between the slots.",
        ),
    ] = None,
    cache_bytes: Annotated[
        int | None,
        typer.Option(
            min=0,
            envvar="ORRERY_CACHE_BYTES",
            help="Most that is kept of files that were sent, for jobs that begin with them.",
        ),
    ] = None,
    authorities: Annotated[
        Path | None,
        typer.Option(
            "--ca", envvar="ORRERY_CA", help="Certificates of the server's authority (PEM)."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=TEXT", help="Jobs may ask for it. Can be repeated."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Take one job, and end.")] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", min=1, help="Take so many jobs, and end.")
    ] = None,
    idle_exit: Annotated[
        float | None,
        typer.Option(
            "--idle-exit", min=0, metavar="SECONDS", help="End when there was no job for so long."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="TIME",
            help="End then: 90s, 30m, 12h, or a date; half a minute before, jobs are handed back.",
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(envvar="ORRERY_LOG_FORMAT", help="text: lines for people, or json."),
    ] = None,
) -> None:
    """Run a worker: it claims jobs from a server and trains them."""
    given = {
        "--max-jobs": max_jobs,
        "--idle-exit": idle_exit,
        "--until": until,
        "--server": url,
        "--data": data,
        "--token-file": token_file,
        "--name": name,
        "--slots": slots,
        "--threads": threads,
        "--cache-bytes": cache_bytes,
        "--ca": authorities,
        "--log-format": log_format,
    }
    words = [(option, str(value)) for option, value in given.items() if value is not None]
    words += [("--label", text) for text in labels or []]
    flags = ["--once"] if once else []
    _become("worker", [*flags, *(word for pair in words for word in pair)])


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def evaluate(context: typer.Context) -> None:
    """Score a checkpoint file beside every criterion in use; `orrery evaluate --help` says how."""
    _become("nbody.evaluation", context.args)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def export(context: typer.Context) -> None:
    """Turn a checkpoint file into C, Fortran, a REBOUND integrator; `orrery export --help`."""
    _become("nbody.export", context.args)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def advise(context: typer.Context) -> None:
    """Try integrators on a file of initial conditions: which to use; `orrery advise --help`."""
    _become("nbody.advice", context.args)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="One archive (tar), with files of jobs, initial conditions and tokens, too.",
        ),
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Copy the database, or with --files all that jobs have; also while the server runs."""
    from server.database import archive
    from server.database import backup as copies
    from server.store.kept_files import KeptFiles

    settings = _settings(data=data)
    with _damage_told():
        if not files:
            path = copies.backup(settings.database_path, target)
            print_text(f"{path}: {path.stat().st_size} bytes")
            return
        made = archive.archive(settings.data, target, KeptFiles.of(settings).has)
    size = made.path.stat().st_size
    print_text(f"{made.path}: {made.files} files, {size} bytes")
    if made.missing:
        some = ", ".join(made.missing[:5]) + (", …" if len(made.missing) > 5 else "")
        what = f"{len(made.missing)} listed files are gone or damaged, and not in it: {some}"
        raise CommandFailed(what, EXIT_FAILED)


@app.command()
def doctor(
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    url: Annotated[
        str, typer.Option(envvar="ORRERY_URL", help="Address of the server.")
    ] = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Look at this installation and say what is wrong with it; nothing is changed."""
    from server.cli.doctor import examine, findings_table

    settings = _settings(data=data)
    with open_client(url, settings.data, _own_token_file(settings)) as client:
        found = list(examine(settings, client))
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        print_text(findings_table(found))
    raise SystemExit(EXIT_FAILED if any(finding.level == "error" for finding in found) else 0)


@app.command()
def restore(
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A file that backup wrote.")
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="Begin with no jobs and no tokens instead.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Put back what backup wrote, while no server runs, also on another machine; the old is kept.

    Nothing has to be moved by hand before, however damaged the old one is.
    """
    from server.database import archive
    from server.database import backup as copies

    if (source is None) is not empty:
        raise CommandFailed("name a FILE, or give --empty", EXIT_USAGE)
    settings = _settings(data=data)
    database = settings.database_path
    if source is None:
        kept = copies.empty(database, settings.folder_mark_path)
    elif archive.is_archive(source):
        kept = archive.unpack(source, settings.data)
    else:
        kept = copies.restore(source, database)
    told = "" if kept is None else f"; what was there is in {kept}"
    print_text(f"{database} is {'to be made anew' if empty else 'restored'}{told}")


def _own_token_file(settings: "ServerSettings") -> Path | None:
    """The file with the token of whoever works here: of the server, else of a worker."""
    if os.environ.get("ORRERY_TOKEN"):
        return None
    files = (settings.admin_token_path, settings.worker_token_path)
    return next((path for path in files if os.access(path, os.R_OK)), None)


def _settings(**given: Any) -> "ServerSettings":
    from server.settings import ServerSettings

    with explain_invalid():
        return ServerSettings(**{key: value for key, value in given.items() if value is not None})


@contextmanager
def _damage_told() -> Generator[None]:
    """A damaged database ends a command with an exit code of its own."""
    from server.database.engines import DatabaseDamaged

    try:
        yield
    except DatabaseDamaged as error:
        raise CommandFailed(str(error), EXIT_FAILED) from error


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as `python -m module`: what needs torch runs in a process that has it."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


def _where_to_sign_in(url: str, settings: "ServerSettings") -> str:
    """The dashboard's address; with a token in it where only the person at the terminal sees it."""
    if not settings.auth:
        return f"page    {url}/"
    if not errors.is_terminal:
        return f"page    {url}/ (sign in with the token of that file)"
    token = settings.admin_token_path.read_text(encoding="utf-8").strip()
    return f"page    {url}/#token={token}"


def _demo(service: "LocalService", settings: "ServerSettings") -> int:
    """Submit the demo over HTTP, follow it, and print what it trained."""
    from server.cli import watching
    from server.views.presets import preset_files

    path = preset_files(settings.data)[DEMO]
    token = settings.admin_token_path.read_text(encoding="utf-8").strip()
    with connect(service.url, token) as client:
        job = client.submit(read_config_file(path))
        errors.print(f"job     {job['id']} ({path})")
        job = watching.watch(client, job["id"], console)
        console.print(tables.job_table(job))
        console.print(tables.checkpoints_table(client.checkpoints(job["id"])["data"]))
        if job["result"]:
            console.print(tables.result_table(job))
    return EXIT_OF_STATUS[job["status"]]


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt
