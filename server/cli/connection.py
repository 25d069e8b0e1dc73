"""What every command that talks to a server has: where it is, whose token, `--json`."""

import inspect
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer
from rich.console import Console

from server.cli.exits import EXIT_CANCELLED, EXIT_FAILED, EXIT_NO_ANSWER, EXIT_USAGE, CommandFailed
from server.own_token import FoundToken, find_token, refusal
from server.results.errors import NoSuchJob
from server.results.naming import job_id_of

if TYPE_CHECKING:
    from server.client import Client

WIDTH_OF_FILES = 400
EXIT_OF_STATUS = {"succeeded": 0, "failed": EXIT_FAILED, "cancelled": EXIT_CANCELLED}

DEFAULT_URL = "http://127.0.0.1:8080"
HELP = {"help_option_names": ["-h", "--help"]}


def make_console(stderr: bool = False) -> Console:
    """A console that prints users' texts as they are, and cuts no lines where nobody watches."""
    as_it_is: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = Console(stderr=stderr, **as_it_is)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, width=WIDTH_OF_FILES, **as_it_is)


console = make_console()
errors = make_console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsIds = Annotated[bool, typer.Option("--ids", help="Print ids alone, one a line.")]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job: its name, its id, or the begin or end of one.")
]
JobsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[JOB…]", help="Jobs: names, ids, or the begin or end of ids."),
]
ThoseJobs = Annotated[list[str], typer.Argument(metavar="JOB…", help="Jobs, up to twenty.")]


@contextmanager
def explain_invalid() -> Generator[None]:
    """What pydantic refuses is told field by field, as wrong usage."""
    from pydantic import ValidationError  # noqa: PLC0415 - for commands that check something here

    try:
        yield
    except ValidationError as error:
        lines = (f"{'/'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        raise CommandFailed("\n".join(lines), EXIT_USAGE) from None


class Shown(NamedTuple):
    """What a command has to say."""

    value: Any  # for `--json`
    text: Any  # for people: text, or something that rich can draw


def connected(command: Callable[..., Shown | None]) -> Callable[..., None]:
    """Give a command the options of a connection; it gets a client as its first argument.

    One that answers `Shown` gets `--json`, too, and its answer is printed; one that answers
    nothing prints by itself.
    """
    signature = inspect.signature(command)
    shows = signature.return_annotation is Shown
    own = list(signature.parameters.values())[1:]
    jobs = [p.name for p in own if p.annotation in (JobArgument, JobsArgument, ThoseJobs)]
    parameters = own + CONNECTION + ([AS_JSON] if shows else [])

    @wraps(command)
    def run(
        url: str, data: Path, token_file: Path | None, authorities: Path | None, **options: Any
    ) -> None:
        as_json = options.pop(AS_JSON.name) if shows else False
        with open_client(url, data, token_file, authorities) as client:
            for name in jobs:
                options[name] = _ids_of(client, options[name])
            shown = command(client, **options)
        if shown is not None:
            print_json(shown.value) if as_json else print_text(shown.text)

    # Typer reads both.
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _ids_of(client: "Client", called: Any) -> Any:
    """What stands for a job on a command line, or a list of it, as ids."""
    if isinstance(called, list):
        return [job_id_of(client, each) for each in cast(list[str], called)]
    return called and job_id_of(client, called)


@contextmanager
def open_client(
    url: str, data: Path, token_file: Path | None, authorities: Path | None = None
) -> Generator["Client"]:
    """A client with the token that was named, or of the environment, or of the data folder."""
    token, whence = find_token(data, token_file)
    with connect(url, token, whence, authorities) as client:
        yield client


@contextmanager
def connect(
    url: str, token: str | None, whence: str = "", authorities: Path | None = None
) -> Generator["Client"]:
    """A client; what it raises ends the command with an exit code of its own.

    Args:
        whence: where the token is from, for whoever is told that it is none.
        authorities: whose certificates are trusted.
    """
    from server.client import ApiProblem, Client, ClientError  # noqa: PLC0415 - not for `--help`

    try:
        with Client(url, token, authorities=authorities) as client:
            yield client
    except NoSuchJob as error:
        raise CommandFailed(str(error), EXIT_NO_ANSWER) from error
    except ClientError as error:
        if whence and isinstance(error, ApiProblem) and error.status == 401:
            raise CommandFailed(refusal(url, FoundToken(token, whence)), EXIT_NO_ANSWER) from error
        raise CommandFailed(str(error), EXIT_NO_ANSWER) from error


def print_json(value: Any) -> None:
    """For scripts."""
    sys.stdout.write(f"{json.dumps(value, indent=2)}\n")


def print_text(text: Any) -> None:
    """For people; text goes out as it is."""
    if isinstance(text, str):
        sys.stdout.write(f"{text}\n")
    else:
        console.print(text)


def make_option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


CONNECTION = [
    make_option(
        "url",
        Annotated[str, typer.Option(envvar="ORRERY_URL", help="Address of the server.")],
        DEFAULT_URL,
    ),
    make_option(
        "data",
        Annotated[Path, typer.Option(envvar="ORRERY_DATA", help="Data folder.")],
        Path("data"),
    ),
    make_option(
        "token_file",
        Annotated[
            Path | None,
            typer.Option(
                envvar="ORRERY_TOKEN_FILE",
                help="File with a token; default: $ORRERY_TOKEN, else DATA/.orrery/admin.token.",
            ),
        ],
        None,
    ),
    make_option(
        "authorities",
        Annotated[
            Path | None,
            typer.Option(
                "--ca", envvar="ORRERY_CA", help="Certificates of the server's authority (PEM)."
            ),
        ],
        None,
    ),
]
AS_JSON = make_option("as_json", AsJson, False)
