"""Logs one attempt to Weights & Biases, from the spool, in a process that nobody waits for.

The run id is the job's id, so that a resumed job continues its run. Whether online or offline is
W&B's own setting (WANDB_MODE).
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import wandb

from server.schemas import Assignment
from worker.spool import SpoolReader

POLL_S = 0.5
MOST_RECORDS = 500


def main(folder: Path) -> None:
    """Follow a spool to its outcome, or to its end."""
    assignment = Assignment.model_validate_json((folder / "assignment.json").read_bytes())
    config = assignment.config
    run = wandb.init(
        id=assignment.job,
        resume="allow",
        project=config.wandb_project or "orrery",
        name=config.wandb_name or config.save_name or assignment.job,
        config=config.as_wandb_dict(),
        settings=wandb.Settings(console="off", silent=True),
    )
    run.finish(exit_code=0 if follow(SpoolReader(folder / "spool.jsonl"), run) else 1)
    shutil.rmtree(folder, ignore_errors=True)


def follow(spool: SpoolReader, run: Any) -> bool:
    """Log every epoch as it comes; returns whether the attempt succeeded."""
    agent = os.getppid()
    while True:
        records = spool.peek(MOST_RECORDS)
        spool.confirm()
        for record in records:
            if record["kind"] == "epoch":
                run.log(record["data"], step=record["data"]["epoch"])
            elif record["kind"] == "outcome":
                return record["data"]["status"] == "succeeded"
        if not records:
            if os.getppid() != agent:  # it died, and its training process with it
                return False
            time.sleep(POLL_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
