"""The `orrery` command. Human tables by default, `--json` for scripts.

Exit codes: 0 done (for a job: succeeded), 1 failed, 2 wrong usage, 3 cancelled, 4 no answer or
refused.
"""

import os
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from nbody.config.files import say_warnings_plainly
from nbody.errors import NBodyError
from server.cli import acting, installation, moving, picturing, reading, sweeps, taking, tokens, top
from server.cli.connection import EXIT_USAGE, HELP, CommandFailed, errors, print_text
from server.cli.scaling import commands as scaling
from server.known_variables import misspelt

THEY_TELL = {"serve", "work"}  # what nobody reads, in their logs

app = typer.Typer(
    name="orrery",
    help="Train neural time steppers for N-body integrators, as a service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)


def main() -> None:
    """Run the command; errors become one line and an exit code."""
    say_warnings_plainly()
    try:
        app()
    except CommandFailed as error:
        _fail(str(error), error.code)
    except (NBodyError, ValueError, OSError) as error:
        from nbody.config.explained import in_words  # noqa: PLC0415 - only here

        _fail(in_words(error), EXIT_USAGE)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from server import __version__  # noqa: PLC0415 - which package it is takes a look at all

        print_text(f"orrery {__version__}")
        raise typer.Exit


@app.callback()
def about(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Train neural time steppers for N-body integrators, as a service."""
    del version  # _print_version has answered
    if context.invoked_subcommand not in THEY_TELL:
        for name, sentence in misspelt(os.environ).items():
            errors.print(f"warning: {sentence}", soft_wrap=True)
            del os.environ[name]  # those that this process starts would say it again


# In the order of `--help`: what runs here, then what asks a server.
for commands in (installation, acting, moving, reading, taking, picturing, top):
    app.add_typer(commands.app)
app.add_typer(scaling.app, name="autoscale")
app.add_typer(sweeps.app, name="sweep")
app.add_typer(tokens.app, name="token")


def _fail(message: str, code: int) -> NoReturn:
    errors.print(Text("error:", "red"), message, soft_wrap=True)
    raise SystemExit(code)
