"""`orrery autoscale`: as many workers as there is work for, where an engine runs them."""

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from server.cli.connection import EXIT_USAGE, HELP, CommandFailed
from server.cli.moving import label
from server.cli.scaling.scaled import Pool, Ready, autoscaled

logger = logging.getLogger("server.engines")
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

    have_gpus = bool(gpu) or GPU_FOLDER.is_dir()
    engine = LocalEngine(pool.terms, Path(pool.data).absolute(), pool.token_file, gpu or [])
    return Ready(engine, have_gpus)


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
    if '"' in pool.data or "`" in pool.data:
        raise CommandFailed("--data: no quotes, please; the node's shell reads it", EXIT_USAGE)
    terms = SlurmTerms(
        pool.data,
        pool.token_file,
        logs.resolve(),
        tuple(shlex.split(python)),
        options=(*options, *(sbatch or ())),
        prologue=tuple(prologue or ()),
    )
    logger.info("what workers print is in %s", terms.logs)
    asked = " ".join((gres or "", *(sbatch or ())))
    return Ready(SlurmEngine(pool.terms, terms), "gpu" in asked, seconds_of(time) if time else None)


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

    others = {key: float(number) for key, number in map(label, resources or [])}
    wanted = {"num_cpus": cpus, "num_gpus": gpus, "resources": others}
    return Ready(RayEngine(pool.terms, pool.data, address, wanted, pool.token), gpus > 0)
