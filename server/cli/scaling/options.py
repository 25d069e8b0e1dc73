"""The options that `orrery autoscale` has with every engine."""

import inspect
from pathlib import Path
from typing import Annotated

import typer

from server.cli.connection import CONNECTION, make_option

_of_connection = {parameter.name: parameter for parameter in CONNECTION}
COMMON = [
    make_option(
        "most",
        Annotated[int, typer.Option("--max", min=1, max=10_000, help="Most workers.")],
        inspect.Parameter.empty,
    ),
    make_option(
        "least",
        Annotated[
            int,
            typer.Option("--min", min=0, max=10_000, help="Workers that stay without work."),
        ],
        0,
    ),
    make_option(
        "idle_exit",
        Annotated[
            float,
            typer.Option(min=1, metavar="SECONDS", help="One without a job for so long ends."),
        ],
        120.0,
    ),
    make_option(
        "interval",
        Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="Between looks.")],
        5.0,
    ),
    make_option(
        "once",
        Annotated[bool, typer.Option("--once", help="Look once, and end; for cron. Workers stay.")],
        False,
    ),
    make_option(
        "leave",
        Annotated[
            bool, typer.Option("--leave", help="At the end, leave workers; they end when idle.")
        ],
        False,
    ),
    make_option(
        "name",
        Annotated[
            str, typer.Option(help="How workers' names begin; another one for each autoscale.")
        ],
        "orrery",
    ),
    make_option(
        "slots", Annotated[int, typer.Option(min=1, max=64, help="Jobs at a time, of each.")], 1
    ),
    make_option(
        "threads",
        Annotated[
            int, typer.Option(min=0, help="Most CPU threads of each job; 0 shares the cores.")
        ],
        0,
    ),
    make_option(
        "labels",
        Annotated[
            list[str] | None,
            typer.Option("--label", metavar="KEY=TEXT", help="Jobs may ask for it; repeatable."),
        ],
        None,
    ),
    make_option(
        "gpu_memory",
        Annotated[
            float | None,
            typer.Option(metavar="GIB", min=0, help="Of a worker's GPU, where it is known."),
        ],
        None,
    ),
    _of_connection["url"].replace(
        annotation=Annotated[
            str,
            typer.Option(
                "--url",
                "--server",
                envvar="ORRERY_URL",
                help="Address of the server, as workers see it.",
            ),
        ]
    ),
    make_option(
        "data",
        Annotated[
            str,
            typer.Option(envvar="ORRERY_DATA", help="Data folder of workers, where they run."),
        ],
        "data",
    ),
    make_option(
        "token_file",
        Annotated[
            Path | None,
            typer.Option(
                envvar="ORRERY_WORKER_TOKEN_FILE",
                help="File with a worker's token; default: DATA/.orrery/worker.token.",
            ),
        ],
        None,
    ),
    _of_connection["authorities"],
]
