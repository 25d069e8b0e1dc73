"""`orrery autoscale`: as many workers as there is work for, where an engine runs them."""

import logging
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from server.cli.connection import EXIT_USAGE, HELP, CommandFailed
from server.cli.scaling.scaled import Pool, Ready, autoscaled

logger = logging.getLogger("server.engines")
OTHER_CLUSTER = re.compile(r"-M|--clusters?\b")
OF_GPUS = re.compile(r"-G|--gpus|--gres=.*gpu")
GPU_FOLDER = Path("/proc/driver/nvidia/gpus")

app = typer.Typer(
    help="Start workers while jobs wait that they can take; they end when there are none.",
    no_args_is_help=True,
    context_settings=HELP,
)


@app.command()
@autoscaled
def local(
    pool: Pool,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            help="A GPU, by number or UUID, for one worker; can be repeated. Without it all "
            "workers see the same ones."
        ),
    ] = None,
) -> Ready:
    """Workers are processes of this machine."""
    from server.engines.local import LocalEngine

    if gpu and pool.most > len(gpu):
        what = f"--max {pool.most}: each worker has a --gpu of its own; here is {len(gpu)}"
        raise CommandFailed(what, EXIT_USAGE)
    have_gpus = bool(gpu) or GPU_FOLDER.is_dir()
    engine = LocalEngine(pool.terms, Path(pool.data).absolute(), pool.token_file, gpu or [])
    return Ready(engine, have_gpus, elsewhere=False)


@app.command()
@autoscaled
def slurm(
    pool: Pool,
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    gres: Annotated[str | None, typer.Option(help="Generic resources, as gpu:1.")] = None,
    time: Annotated[str | None, typer.Option(help="Limit of each, as 12:00:00.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of each.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of each, as 16G.")] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="Any other option of sbatch; can be repeated."),
    ] = None,
    prologue: Annotated[
        list[str] | None,
        typer.Option(metavar="LINE", help="Of shell, before the worker; can be repeated."),
    ] = None,
    python: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="What runs Python on a node, as 'apptainer exec --nv orrery.sif python'.",
        ),
    ] = sys.executable,
    logs: Annotated[
        Path, typer.Option(help="Folder of what workers print; all nodes must see it.")
    ] = Path("orrery-logs"),
) -> Ready:
    """Workers are jobs of a Slurm cluster, submitted by sbatch.

    The file of the token, and Orrery, must be where nodes see them. In --data, variables of the
    node are put in: '$TMPDIR/orrery'. A job that Slurm preempts goes back into its queue.
    """
    from server.engines.slurm import SlurmEngine, SlurmTerms, seconds_of

    given = {
        "partition": partition,
        "account": account,
        "gres": gres,
        "time": time,
        "cpus-per-task": cpus,
        "mem": memory,
    }
    options = [f"--{key}={value}" for key, value in given.items() if value is not None]
    if set('"`\\') & set(pool.data):
        what = "--data: the node's shell reads it; no quotes and backslashes, please"
        raise CommandFailed(what, EXIT_USAGE)
    if elsewhere := [each for each in sbatch or () if OTHER_CLUSTER.match(each)]:
        what = f"--sbatch {elsewhere[0]}: jobs of other clusters would not be found again"
        raise CommandFailed(what, EXIT_USAGE)
    terms = SlurmTerms(
        pool.data,
        pool.token_file,
        logs.resolve(),
        tuple(shlex.split(python)),
        options=(*options, *(sbatch or ())),
        prologue=tuple(prologue or ()),
    )
    logger.info("what workers print is in %s", terms.logs)
    have_gpus = any(OF_GPUS.match(option) for option in options + (sbatch or []))
    return Ready(SlurmEngine(pool.terms, terms), have_gpus, seconds_of(time) if time else None)


@app.command()
@autoscaled
def ray(
    pool: Pool,
    address: Annotated[
        str, typer.Option(envvar="RAY_ADDRESS", help="Of the cluster; auto: the one here.")
    ] = "auto",
    cpus: Annotated[float, typer.Option(min=0, help="Of each worker.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="Of each worker.")] = 0.0,
    resources: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="KEY=NUMBER", help="Any other; can be repeated."),
    ] = None,
) -> Ready:
    """Workers are actors of a Ray cluster, on whose nodes Orrery is installed."""
    from server.engines.ray import RayEngine

    others = dict(map(_resource, resources or []))
    wanted = {"num_cpus": cpus, "num_gpus": gpus, "resources": others}
    # Ray holds nobody to it.
    threads = f"--threads={max(1, int(cpus) // pool.slots)}"
    terms = replace(pool.terms, options=(threads, *pool.terms.options))
    return Ready(RayEngine(terms, pool.data, address, wanted, pool.token), gpus > 0)


def _resource(assignment: str) -> tuple[str, float]:
    key, _, number = assignment.partition("=")
    try:
        return key, float(number)
    except ValueError:
        raise CommandFailed(f"--resource {assignment}: use KEY=NUMBER", EXIT_USAGE) from None
