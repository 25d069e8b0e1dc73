"""Logs one attempt to Weights & Biases, from the spool, in a process that nobody waits for.

The run id is the job's id, so that a resumed job continues its run. Whether online or offline is
W&B's own setting (WANDB_MODE). Whatever W&B does, the process is gone a while after the attempt.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.wire.workers import Assignment
from worker.spool import Record, SpoolReader

POLL_S = 0.5
MOST_RECORDS = 500
UPLOAD_TIME_S = 60.0  # for what is left to upload, once an attempt succeeded
FAREWELL_S = 3.0  # once it ended otherwise


def main(folder: Path) -> None:
    """Follow a spool to its outcome, or to its agent's end."""
    spool, agent = folder / "spool.jsonl", os.getppid()
    watchdog = threading.Thread(target=end_in_time, args=(spool, agent, folder), daemon=True)
    watchdog.start()
    import wandb  # noqa: PLC0415 - under the watchdog: even its import may hang

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
    run.finish(exit_code=0 if follow(SpoolReader(spool), run, agent) else 1)
    shutil.rmtree(folder, ignore_errors=True)


def follow(spool: SpoolReader, run: Any, agent: int) -> bool:
    """Log every epoch as it comes; returns whether the attempt succeeded."""
    for record in records(spool, agent):
        if record["kind"] == "epoch":
            run.log(record["data"], step=record["data"]["epoch"])
        elif record["kind"] == "outcome":
            return record["data"]["status"] == "succeeded"
    return False


def records(spool: SpoolReader, agent: int) -> Iterator[Record]:
    """Records as they come, as long as the agent lives; its training process dies with it."""
    while True:
        fresh = spool.peek(MOST_RECORDS)
        spool.confirm()
        yield from fresh
        if not fresh:
            if os.getppid() != agent:
                return
            time.sleep(POLL_S)


def end_in_time(spool: Path, agent: int, folder: Path) -> None:
    """End this process and all that W&B started, some time after the attempt's end."""
    succeeded = False
    for record in records(SpoolReader(spool), agent):
        if record["kind"] == "outcome":
            succeeded = record["data"]["status"] == "succeeded"
            break
    time.sleep(UPLOAD_TIME_S if succeeded else FAREWELL_S)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
