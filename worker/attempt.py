"""One attempt of one job: start the training process, watch it, end it when it must end."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from server.wire.states import StopReason
from server.wire.workers import Assignment, Outcome, ReportAnswer, WorkerTerms
from worker.client import Unreachable
from worker.memory import memory_kills
from worker.reporter import Reporter
from worker.spool import ProgressFile, SpoolWriter, recorded_outcome
from worker.wandb_journal import Journal, start_telling
from worker.workplace import (
    EXIT_DISK_FULL,
    SMALLER,
    GpuPlace,
    Workplace,
    processes,
    run_child,
)

SHUTDOWN_GRACE_S = 8.0  # for the process to end its epoch, when the agent itself must end
RUNTIME_GRACE_S = 8.0
START_ALLOWANCE_S = 60.0  # for libraries to load, on a host with other work to do
ALLOCATION_FAILED = b"std::bad_alloc"  # what C++ says last, and then it aborts
LAST_WORDS_BYTES = 4096
PULSE_INTERVAL_S = 0.25
LOOK_INTERVAL_S = 0.1  # at the spool, for news
NEWS_INTERVAL_S = 0.25  # between reports, while there is news

logger = logging.getLogger(__name__)


class Attempt:
    """A training process and what is known of it."""

    def __init__(
        self,
        assignment: Assignment,
        terms: WorkerTerms,
        data: Path,
        state: Path,
        threads: int,
        gpu: GpuPlace | None,
        stopping: threading.Event,
    ) -> None:
        self._assignment, self._terms, self._stopping = assignment, terms, stopping
        self._state = state
        self._started_at = time.monotonic()
        self._stop_reason: StopReason | None = None  # why this side is ending the process
        self._kill_at: float | None = None
        self._group_is_gone = False
        self._progress = ProgressFile(state / "progress")
        self._last_progress: tuple[int, str] | None = None
        self._progress_at = self._started_at
        self._heard_at = self._started_at  # when a report was sent that the server took
        self._is_suspended = False
        self._memory_kills = memory_kills()
        self._over = threading.Event()
        # Before the lease ends at the server, whose clock began with the report before.
        self._patience_s = 0.9 * terms.lease_ttl_s - terms.heartbeat_interval_s
        state.mkdir(parents=True, exist_ok=True)
        (state / "spool.jsonl").touch()
        workplace = Workplace(
            assignment=assignment.model_dump_json(by_alias=True),
            data=str(data.resolve()),
            state=str(state.resolve()),
            parent=os.getpid(),
            patience_s=self._patience_s,
            threads=threads,
            gpu=gpu,
        )
        for_child, self._pulse = processes.Pipe(duplex=False)
        os.set_blocking(self._pulse.fileno(), False)
        self._process = processes.Process(target=run_child, args=(workplace, for_child))
        self._process.start()
        for_child.close()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        if assignment.config.wandb:
            try:
                journal = Journal.of(data, assignment.job)
                journal.add(assignment, state / "spool.jsonl")
                start_telling(data, assignment.job)
            except OSError as error:
                logger.warning("nothing is logged to W&B: %s", error)

    def supervise(self, reporter: Reporter, explain: Callable[[Outcome], Outcome]) -> Outcome:
        """Report until the process is gone; returns how it ended.

        Args:
            explain: what is made of that by whoever knows more of this host.

        Raises:
            LeaseEnded, ServerRefused
        """
        heartbeat = self._terms.heartbeat_interval_s
        reported_at = -heartbeat
        while self._process.is_alive():
            wait([self._process.sentinel], timeout=min(LOOK_INTERVAL_S, heartbeat))
            silence = time.monotonic() - reported_at
            if silence >= heartbeat or (silence >= NEWS_INTERVAL_S and reporter.has_news()):
                reported_at = time.monotonic()
                try:
                    self._obey(reporter.deliver())
                except Unreachable:
                    pass  # the spool keeps it
                else:
                    self._heard_at = reported_at
            self._check_time()
        self._process.join()
        self._kill_group()  # whatever the process may have left behind
        recorded = reporter.recorded_outcome()
        outcome = explain(self._outcome(recorded))
        if outcome != recorded:
            self._record(outcome)
        return outcome

    def kill(self) -> None:
        """End the process and its group at once."""
        self._kill_group()
        self._process.join()

    def close(self) -> None:
        """Let go of the process; whoever follows the spool learns of the end."""
        self._over.set()
        self._keeper.join()
        self._pulse.close()
        self._process.close()
        if recorded_outcome(self._state / "spool.jsonl") is None:
            self._record(Outcome(status="stopped", stop_reason=StopReason.WORKER_LOST))

    def _record(self, outcome: Outcome) -> None:
        """Append the outcome to the spool: for W&B's process, and for the next agent if this one
        cannot deliver it."""
        with contextlib.suppress(OSError):  # a full disk
            spool = SpoolWriter(self._state / "spool.jsonl")
            spool.append("outcome", outcome.model_dump(mode="json"))
            spool.close()

    def _obey(self, answer: ReportAnswer) -> None:
        if answer.command is not None:
            self._end(StopReason.USER, answer.command.grace_s)

    def _keep(self) -> None:
        """While the process runs: signs of life, also when the server keeps this side waiting."""
        while not self._over.wait(PULSE_INTERVAL_S):
            self._give_pulse()
            self._hold_to_lease()

    def _give_pulse(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it is stopped, or gone
            os.write(self._pulse.fileno(), b".")

    def _hold_to_lease(self) -> None:
        """Without the server's word somebody else may have the job: wait, and see whose it is."""
        silent = time.monotonic() - self._heard_at > self._patience_s
        process_id = self._process.pid or 0
        if silent == self._is_suspended or not _leads_group(process_id):
            return
        self._is_suspended = silent
        job = self._assignment.job
        what = "waits: its lease may have ended" if silent else "goes on: it kept its lease"
        logger.warning("the process of job %s %s", job, what, extra={"job_id": job})
        self._give_pulse()
        os.killpg(process_id, signal.SIGSTOP if silent else signal.SIGCONT)

    def _check_time(self) -> None:
        now = time.monotonic()
        progress = self._progress.read()
        if progress != self._last_progress or self._is_suspended:
            self._last_progress, self._progress_at = progress, now
        left = self._assignment.runtime_left_s
        if self._stopping.is_set():
            self._end(StopReason.WORKER_LOST, SHUTDOWN_GRACE_S)
        elif left is not None and now - self._started_at > left:
            self._end(StopReason.MAX_RUNTIME, RUNTIME_GRACE_S)
        elif now - self._progress_at > self._patience():
            self._end(StopReason.STALLED, 0.0)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_group()

    def _patience(self) -> float:
        """How long the process may go without progress [s]; longer before it has begun."""
        stall = self._terms.stall_timeout_s
        return stall if self._last_progress else max(stall, START_ALLOWANCE_S)

    def _end(self, reason: StopReason, grace_s: float) -> None:
        """Ask the process to leave; the first reason stands, the shortest grace counts."""
        kill_at = time.monotonic() + grace_s
        if self._stop_reason is None:
            job = self._assignment.job
            logger.info("ending job %s: %s", job, reason, extra={"job_id": job})
            self._stop_reason = reason
            self._signal(signal.SIGTERM)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _outcome(self, recorded: Outcome | None) -> Outcome:
        stopped = recorded is None or recorded.status == "stopped"
        if self._stop_reason is None or not stopped:
            return recorded or self._crash()
        if self._stop_reason is StopReason.MAX_RUNTIME:
            detail = "the job's max_runtime_s is over; its last checkpoint is kept"
            return Outcome(status="failed", stop_reason=StopReason.MAX_RUNTIME, detail=detail)
        if self._stop_reason is StopReason.STALLED:
            seconds = self._terms.stall_timeout_s
            detail = f"the training process made no progress for {seconds:g} s"
            return Outcome(status="failed", stop_reason=StopReason.STALLED, detail=detail)
        return Outcome(status="stopped", stop_reason=self._stop_reason)

    def _crash(self) -> Outcome:
        code = self._process.exitcode
        if code == EXIT_DISK_FULL:
            detail = "the disk of the data folder is full; free some space and retry"
            return Outcome(status="failed", stop_reason=StopReason.DISK_FULL, detail=detail)
        if code == -signal.SIGKILL and memory_kills() > self._memory_kills:
            detail = f"the kernel killed the training process: memory was short; {SMALLER}"
            return Outcome(status="failed", stop_reason=StopReason.OOM, detail=detail)
        if code == -signal.SIGABRT and ALLOCATION_FAILED in self._last_words():
            detail = f"the training process could not get more memory; {SMALLER}"
            return Outcome(status="failed", stop_reason=StopReason.OOM, detail=detail)
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        detail = f"the training process died ({how}) without saying why"
        return Outcome(status="failed", stop_reason=StopReason.WORKER_LOST, detail=detail)

    def _last_words(self) -> bytes:
        """The end of what the process printed."""
        try:
            with (self._state / "output.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
                return log.read()
        except OSError:
            return b""

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def _kill_group(self) -> None:
        """The process leads its own group once it runs; before that it is killed alone."""
        process_id = self._process.pid
        if process_id is None or self._group_is_gone:
            return
        self._group_is_gone = not self._process.is_alive()  # its number may be another's later
        try:
            os.killpg(process_id, signal.SIGKILL)
        except ProcessLookupError:
            if self._process.is_alive():
                self._process.kill()


def _leads_group(process_id: int) -> bool:
    """Whether a process lives, and leads its own group by now."""
    try:
        return process_id > 0 and os.getpgid(process_id) == process_id
    except ProcessLookupError:
        return False
