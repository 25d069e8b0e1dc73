"""Tells Weights & Biases of jobs, from their journals, in a process that nobody waits for.

`python -m worker.child.wandb DATA JOB` follows the job's last attempt; without JOB it tells what is
left over of all jobs. The run id is the job's id, and a run is in the job's folder. Whether online
or offline is W&B's own setting (WANDB_MODE). Online a run goes on after the last epoch that W&B
has; offline it is written anew, whole, and replaces what was there.
"""

import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.wire.workers import MAX_NOTE, Assignment
from worker.child.wandb_files import tell_files
from worker.spool import Record, SpoolReader, SpoolWriter
from worker.wandb_journal import Journal, untold

POLL_S = 0.5
MOST_RECORDS = 500
UPLOAD_TIME_S = 60.0  # for what is left to upload, once an attempt succeeded
FAREWELL_S = 15.0  # once it ended otherwise
LEFTOVERS_TIME_S = 600.0  # for all that is left over of earlier attempts
INIT_TIMEOUT_S = 30.0
PAUSE_S = 60.0  # before another try to reach it
LONGEST_TAG = 64  # that W&B takes

logger = logging.getLogger(__name__)


def main(data: Path, job: str | None) -> None:
    """Tell of one job as it runs, or of all that is left over."""
    if job is None:
        tell_leftovers(data)
    else:
        follow_job(data, Journal.of(data, job))


def follow_job(data: Path, journal: Journal) -> None:
    """Tell of a job's attempts, and of the last one as it goes on, to its end or its agent's."""
    spools, agent = journal.spools(), os.getppid()
    if not spools:  # another process has told all of it
        return
    spool = spools[-1]
    threading.Thread(target=_end_in_time, args=(spool, agent), daemon=True).start()
    noted = False
    with journal.held(wait=True) as mine:
        while mine:
            try:
                tell(data, journal, agent)
            except Exception as error:  # noqa: BLE001 - W&B's, of many kinds
                if not noted:
                    noted = True
                    _note(spool, f"W&B takes nothing ({error}); it is tried again until it does")
                time.sleep(PAUSE_S)
            else:
                mine = not journal.is_told  # another outcome may have followed
    journal.remove_if_settled()


def tell_leftovers(data: Path) -> None:
    """What processes that were killed, or that could not reach W&B, have left to tell."""
    threading.Timer(LEFTOVERS_TIME_S, _end_at_once).start()
    for journal in untold(data):
        with journal.held(wait=False) as mine:
            try:
                if mine and not journal.is_told:
                    tell(data, journal, None)
            except Exception as error:  # noqa: BLE001 - W&B's, of many kinds
                logger.warning("W&B takes nothing of %s: %s", journal.folder.name, error)
        journal.remove_if_settled()
    _end_at_once()


def tell(data: Path, journal: Journal, agent: int | None) -> None:
    """Tell all that a journal holds, and what comes until the attempt or its agent ends.

    Args:
        agent: process that the last attempt belongs to; None: nothing comes any more.

    Raises:
        Exception: whatever W&B raises.
    """
    import wandb  # noqa: PLC0415 - under a watchdog: even its import may hang

    assignment = journal.assignment()
    folder = (data / assignment.output_folder).parent
    if agent is None and not folder.is_dir():  # the job was deleted with its files
        journal.remove()
        return
    folder.mkdir(parents=True, exist_ok=True)
    journal.mark_untold()
    run = wandb.init(
        id=assignment.job,
        resume="allow",
        dir=folder,
        settings=wandb.Settings(console="off", silent=True, init_timeout=INIT_TIMEOUT_S),
        **describe(assignment),
    )
    place = Path(run.dir).parent
    outcome, last = log_all(journal, run, agent)
    tell_files(data.resolve(), assignment.job, journal.spools(), run)
    if outcome is not None and outcome.get("result"):
        run.summary.update(outcome["result"])
    run.finish(exit_code=int(outcome is not None and outcome["status"] == "failed"))
    for earlier in place.parent.glob("offline-run-*"):  # of this job: those of one second, too
        if earlier != place:
            shutil.rmtree(earlier, ignore_errors=True)
    journal.mark_told(last)


def describe(assignment: Assignment) -> dict[str, Any]:
    """What a run is called, and what it is made of."""
    config = assignment.config
    tags = [f"{key}={text}"[:LONGEST_TAG] for key, text in assignment.labels.items()]
    return {
        "project": config.wandb_project or "orrery",
        "name": config.wandb_name or assignment.name or config.save_name or assignment.job,
        "tags": tags,
        "group": assignment.labels.get("sweep"),
        "job_type": assignment.kind,
        "config": {**config.as_wandb_dict(), "labels": assignment.labels},
    }


def log_all(
    journal: Journal, run: Any, agent: int | None
) -> tuple[dict[str, Any] | None, SpoolReader]:
    """Log each epoch once, in order.

    Epochs that a later attempt computed again are the same, bit for bit.

    Returns:
        The outcome of the last attempt, where it has one, and how far its records were read.
    """
    step = 0 if run.offline else run.starting_step
    outcome = None
    *earlier, last = map(SpoolReader, journal.spools())
    for spool in (*earlier, last):
        outcome = None
        for record in records(spool, agent if spool is last else None):
            epoch = record["data"].get("epoch", -1)
            if record["kind"] == "epoch" and epoch >= step:
                run.log(record["data"], step=epoch)
                step = epoch + 1
            elif record["kind"] == "outcome":
                outcome = record["data"]
    return outcome, last


def records(spool: SpoolReader, agent: int | None) -> Iterator[Record]:
    """Records as they come, up to an outcome, as long as the agent lives: its training process dies
    with it.
    """
    while True:
        fresh = spool.peek(MOST_RECORDS)
        spool.confirm()
        yield from fresh
        if any(record["kind"] == "outcome" for record in fresh):
            return
        if not fresh:
            if os.getppid() != agent:
                return
            time.sleep(POLL_S)


def _note(spool: Path, text: str) -> None:
    """An event of the job."""
    writer = SpoolWriter(spool)
    writer.append("note", {"about": "wandb", "text": text[:MAX_NOTE]})
    writer.close()


def _end_in_time(spool: Path, agent: int) -> None:
    """End this process and all that W&B started, some time after the attempt's end."""
    outcome: dict[str, Any] = {}
    for record in records(SpoolReader(spool), agent):
        if record["kind"] == "outcome":
            outcome = record["data"]
    time.sleep(UPLOAD_TIME_S if outcome.get("status") == "succeeded" else FAREWELL_S)
    _end_at_once()


def _end_at_once() -> None:
    """W&B's own processes may hang."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
