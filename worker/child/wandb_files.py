"""What W&B gets of a job besides numbers: pictures of its scores, checkpoints as references."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbody.evaluation.look_file import HELD_OUT_FILE, PICTURE_FILE
from worker.spool import SpoolReader

Json = dict[str, Any]
MOST_RECORDS = 1000


def tell_files(data: Path, job: str, spools: Iterable[Path], run: Any) -> None:
    """Log pictures and curves of the scores, and all checkpoints that are still there.

    A checkpoint is a reference: where its file is, and its checksum; nothing is uploaded.

    Raises:
        Exception: whatever W&B raises.
    """
    artifacts, checkpoints = _recorded(spools)
    if (place := artifacts.get(HELD_OUT_FILE)) and (data / place["path"]).is_file():
        run.log(_curves(json.loads((data / place["path"]).read_bytes())))
    if (place := artifacts.get(PICTURE_FILE)) and (data / place["path"]).is_file():
        import wandb  # noqa: PLC0415 - under the watchdog of who calls this

        run.log({"evaluation/picture": wandb.Image(str(data / place["path"]))})
    _refer_to(data, job, checkpoints.values(), run)


def _recorded(spools: Iterable[Path]) -> tuple[dict[str, Json], dict[int, Json]]:
    """The newest files of a job: artifacts by name, checkpoints that are kept by epoch."""
    artifacts: dict[str, Json] = {}
    checkpoints: dict[int, Json] = {}
    for spool in spools:
        reader = SpoolReader(spool)
        while fresh := reader.peek(MOST_RECORDS):
            reader.confirm()
            for record in fresh:
                found = record["data"]
                if record["kind"] == "artifact":
                    artifacts[Path(found["path"]).name] = found
                elif record["kind"] == "checkpoint" and not found["rolling"]:
                    checkpoints[found["epoch"]] = found
    return artifacts, checkpoints


def _curves(look: Json) -> Json:
    """Charts of W&B's own: η over eccentricity, and how long steps are."""
    import wandb  # noqa: PLC0415

    shares: Json = look["ratios"]["shares"]
    charts: Json = {
        "evaluation/dt over dt*": wandb.plot.line_series(
            xs=look["ratios"]["edges"][:-1],
            ys=list(shares.values()),
            keys=list(shares),
            title="share of held-out states",
            xname="dt/dt*",
        )
    }
    if bins := look["by_eccentricity"]:
        rules = list(bins[0]["efficiency"])
        charts["evaluation/eta over eccentricity"] = wandb.plot.line_series(
            xs=[(each["from"] + each["to"]) / 2 for each in bins],
            ys=[[each["efficiency"][rule] for each in bins] for rule in rules],
            keys=rules,
            title="calibrated efficiency",
            xname="eccentricity",
        )
    return charts


def _refer_to(data: Path, job: str, checkpoints: Iterable[Json], run: Any) -> None:
    there = [each for each in checkpoints if (data / each["path"]).is_file()]
    if not there:
        return
    import wandb  # noqa: PLC0415

    artifact = wandb.Artifact(
        f"checkpoints-{job}",
        type="model",
        metadata={Path(each["path"]).name: each["sha256"] for each in there},
    )
    for each in there:
        path = data / each["path"]
        artifact.add_reference(path.as_uri(), name=path.name)
    run.log_artifact(artifact)
