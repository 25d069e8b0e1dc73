"""The `orrery` command. Human tables by default, `--json` for scripts.

Exit codes: 0 done (for a job: succeeded), 1 failed, 2 wrong usage, 3 cancelled, 4 no answer or
refused.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
from pydantic import ValidationError
from rich.markup import escape

from nbody.config import Config, parse_override, read_config_file
from nbody.errors import NBodyError
from server import __version__, display
from server import backup as copies
from server.client import ApiProblem, Client, ClientError
from server.database import DatabaseDamaged
from server.http_protocol import uvicorn_config
from server.service import prepare
from server.settings import ServerSettings
from server.states import TERMINAL
from server.up import LocalService, ServiceFailed, check_port, free_port, on_termination

EXIT_FAILED, EXIT_USAGE, EXIT_CANCELLED, EXIT_NO_ANSWER = 1, 2, 3, 4
EXIT_OF_STATUS = {"succeeded": 0, "failed": EXIT_FAILED, "cancelled": EXIT_CANCELLED}
START_TIMEOUT_S = 60.0
DEMO_CONFIG = "kepler_demo.json"

app = typer.Typer(
    name="orrery",
    help="Train neural time steppers for N-body integrators, as a service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
token_app = typer.Typer(help="Make, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token_app, name="token")
console = display.make_console()
errors = display.make_console(stderr=True)

Data = Annotated[Path, typer.Option(envvar="ORRERY_DATA", help="Data folder.")]
Url = Annotated[str, typer.Option(envvar="ORRERY_URL", help="Address of the server.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="ORRERY_TOKEN_FILE",
        help="File with a token; default: $ORRERY_TOKEN, else DATA/.orrery/admin.token.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]
DEFAULT_KEYS = ["part2/final_pass_rate"]  # that jobs are compared by
DATA, URL = Path("data"), "http://127.0.0.1:8080"


def main() -> None:
    """Run the command; errors become one line and an exit code."""
    try:
        app()
    except ApiProblem as error:
        _fail(str(error), EXIT_NO_ANSWER)
    except (ClientError, ServiceFailed) as error:
        _fail(str(error), EXIT_NO_ANSWER)
    except DatabaseDamaged as error:
        _fail(str(error), EXIT_FAILED)
    except ValidationError as error:
        lines = (f"{'/'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        _fail("\n".join(lines), EXIT_USAGE)
    except (NBodyError, ValueError, OSError) as error:
        _fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        _print(f"orrery {__version__}", as_json=False)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Train neural time steppers for N-body integrators, as a service."""


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
    settings = _settings(host=host, port=port, data=data, auth=auth)
    if settings.port == 0 or (demo and port is None):
        settings = settings.model_copy(update={"port": free_port(settings.host)})
    check_port(settings.host, settings.port)
    prepare(settings)
    on_termination(_interrupt)
    with LocalService(settings, max(workers, 1) if demo else workers) as service:
        service.start_server()
        service.wait_until_ready(START_TIMEOUT_S)
        service.start_workers()
        errors.print(f"server  {service.url}", highlight=False)
        errors.print(f"token   {settings.admin_token_path}", highlight=False)
        if demo:
            code = _demo(service, settings)
        else:
            errors.print("Ctrl-C stops it", highlight=False)
            code = service.wait()
    raise SystemExit(code)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    auth: Annotated[bool | None, typer.Option(help="Ask for tokens.")] = None,
) -> None:
    """Run the server alone. What is not given comes from ORRERY_… variables."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("server.access").setLevel(logging.WARNING)
    settings = _settings(host=host, port=port, data=data, auth=auth)
    if settings.port:
        check_port(settings.host, settings.port)
    prepare(settings)
    uvicorn.Server(uvicorn_config(settings)).run()


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def work(context: typer.Context) -> None:
    """Run a worker; all options are those of `python -m worker`."""
    _become("worker", context.args)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def evaluate(context: typer.Context) -> None:
    """Score a checkpoint file beside every criterion in use; `orrery evaluate --help` says how."""
    _become("nbody.report", context.args)


@app.command()
def submit(
    config: Annotated[Path, typer.Argument(help="JSON or TOML file, ours or AITimeStepper's.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Submit a training job."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fields = read_config_file(config)
    for warning in caught:
        errors.print(f"warning: {escape(str(warning.message))}", highlight=False)
    fields |= dict(map(parse_override, assignments or []))
    Config.model_validate(fields)
    with _client(url, data, token_file) as client:
        job = client.submit(fields, **({"name": name} if name else {}))
        for text in job["warnings"]:
            errors.print(f"warning: {escape(text)}", highlight=False)
        if watch:
            if not as_json:
                errors.print(job["id"], highlight=False)
            job = _follow(client, job["id"], as_json)
            raise SystemExit(EXIT_OF_STATUS[job["status"]])
        _print(job if as_json else job["id"], as_json)


@app.command()
def jobs(
    status: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=TEXT", help="Only with this label.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with _client(url, data, token_file) as client:
        filters = {"status": status, "name": name, "metadata": label}
        page = client.jobs(limit=limit, **{key: value for key, value in filters.items() if value})
    _print(page if as_json else display.jobs_table(page["data"]), as_json)


@app.command()
def show(
    job_id: JobArgument,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a job."""
    with _client(url, data, token_file) as client:
        job = client.job(job_id)
    _print(job if as_json else display.job_table(job), as_json)
    if job["result"] and not as_json:
        console.print(display.scores_table(job["result"]))


@app.command()
def watch(
    job_id: JobArgument,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Follow a job to its end; the exit code tells how it ended."""
    with _client(url, data, token_file) as client:
        job = _follow(client, job_id, as_json)
    raise SystemExit(EXIT_OF_STATUS[job["status"]])


@app.command()
def metrics(
    job_id: JobArgument,
    key: Annotated[list[str] | None, typer.Option(help="Only these metrics.")] = None,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's metrics, one epoch a line."""
    with _client(url, data, token_file) as client:
        rows = list(client.all_metrics(job_id, **({"keys": key} if key else {})))
    _print(rows if as_json else display.metrics_table(rows), as_json)


@app.command()
def logs(
    job_id: JobArgument, url: Url = URL, data: Data = DATA, token_file: TokenFile = None
) -> None:
    """Print what a job's training process printed."""
    with _client(url, data, token_file) as client:
        offset = 0
        while piece := client.logs(job_id, offset):
            sys.stdout.buffer.write(piece)
            offset += len(piece)
    sys.stdout.flush()


@app.command()
def cancel(
    job_id: JobArgument,
    force: Annotated[bool, typer.Option("--force", help="Kill it at once.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is gone.")] = False,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a job."""
    with _client(url, data, token_file) as client:
        job = client.cancel(job_id, force=force)
        if wait:
            job = client.wait(job_id)
    _print(job if as_json else f"{job['id']}: {job['status']}", as_json)


@app.command()
def pause(
    job_id: JobArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Until its process is gone.")] = False,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Pause a job: it keeps its state and gives its slot free."""
    with _client(url, data, token_file) as client:
        job = client.pause(job_id)
        if wait:
            job = client.wait(job_id, until=TERMINAL | {"paused"})
    _print(job if as_json else f"{job['id']}: {job['status']}", as_json)


@app.command()
def resume(
    job_id: JobArgument,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Queue a paused job again; it goes on from where it was."""
    with _client(url, data, token_file) as client:
        job = client.resume(job_id)
    _print(job if as_json else f"{job['id']}: {job['status']}", as_json)


@app.command()
def retry(
    job_id: JobArgument,
    from_checkpoint: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Go on from this checkpoint of the job.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a field, for example epochs."),
    ] = None,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a new job from one that is over."""
    options: dict[str, Any] = {"config": dict(map(parse_override, assignments or []))}
    if from_checkpoint is not None:
        options["from_checkpoint"] = from_checkpoint
    with _client(url, data, token_file) as client:
        job = client.retry(job_id, **options)
    _print(job if as_json else job["id"], as_json)


@app.command()
def change(
    job_id: JobArgument,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Higher runs first.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=TEXT", help="Replace all labels; can be repeated."),
    ] = None,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's name, priority or labels."""
    given = {"name": name, "priority": priority}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if any("=" not in label for label in labels or ()):
        raise ValueError("--label: use KEY=TEXT")
    if labels is not None:
        changes["metadata"] = {
            key: text for key, _, text in (label.partition("=") for label in labels)
        }
    with _client(url, data, token_file) as client:
        job = client.change(job_id, **changes)
    _print(job if as_json else display.job_table(job), as_json)


@app.command()
def delete(
    job_id: JobArgument,
    files: Annotated[bool, typer.Option("--files", help="Its checkpoints and logs, too.")] = False,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a job that is over."""
    with _client(url, data, token_file) as client:
        gone = client.delete(job_id, files=files)
    _print(gone if as_json else f"{gone['id']}: deleted", as_json)


@app.command()
def queue(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List waiting jobs, the next one first."""
    with _client(url, data, token_file) as client:
        page = client.queue(limit=limit)
    _print(page if as_json else display.jobs_table(page["data"]), as_json)


@app.command()
def attempts(
    job_id: JobArgument,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List who tried a job, when, and how that ended."""
    with _client(url, data, token_file) as client:
        page = client.attempts(job_id)
    _print(page if as_json else display.attempts_table(page["data"]), as_json)


@app.command()
def compare(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…", help="Jobs, up to twenty.")],
    key: Annotated[list[str] | None, typer.Option(help="Metrics.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Last epochs of each.")] = 20,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Print metrics of several jobs side by side."""
    with _client(url, data, token_file) as client:
        found = client.compare(job_ids, key or DEFAULT_KEYS, limit=limit)
    _print(found if as_json else display.comparison_table(found), as_json)


@app.command()
def checkpoints(
    job_id: JobArgument,
    download: Annotated[
        Path | None, typer.Option(help="Save the files in this folder.", metavar="FOLDER")
    ] = None,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List a job's checkpoints, or download them."""
    with _client(url, data, token_file) as client:
        found: list[dict[str, Any]] = []
        page = client.checkpoints(job_id)
        found += page["data"]
        while page["has_more"]:
            page = client.checkpoints(job_id, after=page["last_id"])
            found += page["data"]
        _print(found if as_json else display.checkpoints_table(found), as_json)
        if download is not None:
            download.mkdir(parents=True, exist_ok=True)
            for checkpoint in found:
                target = download / Path(checkpoint["path"]).name
                errors.print(str(client.download(checkpoint["id"], target)), highlight=False)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Copy the database, also while the server runs; checkpoints are files beside it."""
    path = copies.backup(_settings(data=data).database_path, target)
    _print(f"{path}: {path.stat().st_size} bytes", as_json=False)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that backup wrote.")],
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Put a copy in the place of the database, while no server runs; the old one is kept."""
    database = _settings(data=data).database_path
    kept = copies.restore(source, database)
    told = "" if kept is None else f"; the old database is {kept}"
    _print(f"{database} is restored{told}", as_json=False)


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="For people.")],
    role: Annotated[str, typer.Option(help="admin, user, viewer or worker.")] = "user",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.0, help="Valid for this long; default: until revoked.")
    ] = None,
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print its secret, which is shown this once."""
    seconds = None if expires_in_days is None else 86400 * expires_in_days
    with _client(url, data, token_file) as client:
        token = client.create_token(name, role, expires_in_s=seconds)
    _print(token if as_json else token["secret"], as_json)


@token_app.command("list")
def list_tokens(
    url: Url = URL, data: Data = DATA, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """List tokens, without their secrets."""
    with _client(url, data, token_file) as client:
        page = client.tokens()
    _print(page if as_json else display.tokens_table(page["data"]), as_json)


@token_app.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Its id, not its secret.")],
    url: Url = URL,
    data: Data = DATA,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token, at once and for good."""
    with _client(url, data, token_file) as client:
        token = client.revoke_token(token_id)
    _print(token if as_json else f"{token['id']}: revoked", as_json)


def _settings(**given: Any) -> ServerSettings:
    return ServerSettings(**{key: value for key, value in given.items() if value is not None})


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as `python -m module`: what needs torch runs in a process that has it."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


def _demo(service: LocalService, settings: ServerSettings) -> int:
    """Submit the demo over HTTP, follow it, and print what it trained."""
    path = settings.data / DEMO_CONFIG
    if not path.is_file():
        path = Path(__file__).parent.parent / "data" / DEMO_CONFIG
    token = settings.admin_token_path.read_text(encoding="utf-8").strip()
    with Client(service.url, token) as client:
        job = client.submit(read_config_file(path))
        errors.print(f"job     {job['id']} ({path})", highlight=False)
        job = display.watch(client, job["id"], console)
        console.print(display.job_table(job))
        console.print(display.checkpoints_table(client.checkpoints(job["id"])["data"]))
        if job["result"]:
            console.print(display.scores_table(job["result"]))
    return EXIT_OF_STATUS[job["status"]]


def _follow(client: Client, job_id: str, as_json: bool) -> dict[str, Any]:
    if as_json:
        job = client.wait(job_id)
        _print(job, as_json=True)
        return job
    job = display.watch(client, job_id, console)
    console.print(display.job_table(job))
    if job["result"]:
        console.print(display.scores_table(job["result"]))
    return job


def _client(url: str, data: Path, token_file: Path | None) -> Client:
    token = os.environ.get("ORRERY_TOKEN")
    if token_file is not None:
        token = token_file.read_text(encoding="utf-8").strip()
    elif token is None:
        path = data / ".orrery" / "admin.token"
        token = path.read_text(encoding="utf-8").strip() if path.is_file() else None
    return Client(url, token)


def _print(value: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(f"{json.dumps(value, indent=2)}\n")
    elif isinstance(value, str):
        sys.stdout.write(f"{value}\n")
    else:
        console.print(value)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise SystemExit(code)
