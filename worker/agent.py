"""The agent: one per host. Claims jobs for its slots and supervises one training process per slot.

A training process never talks to the server; the agent reads its spool and reports. When the agent
dies, its processes die with it, and the next agent of the same name finishes what the spool still
holds and hands the job back at once, without waiting for the lease to run out.
"""

import errno
import logging
import shutil
import socket
import subprocess
import threading
import time
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from server.wire.states import TERMINAL, StopReason
from server.wire.workers import (
    FOLDER_MARK,
    Assignment,
    Outcome,
    WorkerRegistration,
    WorkerTerms,
)
from worker.attempt import Attempt
from worker.back_off import BackOff
from worker.client import LeaseEnded, NotRegistered, ServerRefused, Unreachable, WorkerClient
from worker.files.abandoned import clear_abandoned
from worker.files.keep_alive import Interrupted, KeepAlive
from worker.files.proof import proof
from worker.files.room import Room
from worker.gpus.fitness import Fitness
from worker.gpus.share import Gpus
from worker.lifetime import Lifetime
from worker.memory import memory_bytes
from worker.own_name import own_name
from worker.reporter import Reporter, Unfinished
from worker.settings import WorkerSettings
from worker.wandb_journal import Journal, start_telling, untold

CLOCK_INTERVAL_S = 5.0
LOOK_S = 0.2  # between tries to say farewell
VITALS_INTERVAL_S = 10.0
UNFIT_S = 15.0  # between looks at a GPU that jobs cannot use
WANDB_INTERVAL_S = 600.0  # between looks for what W&B was not told
FAREWELL_S = 5.0  # for the last reports, when the agent itself must end
FAREWELL_OF_FILES_S = 12.0  # for those that are under way then

logger = logging.getLogger(__name__)


def _folder_id(data: Path) -> str | None:
    """What the server wrote into the data folder, for workers that see it."""
    try:
        return (data / FOLDER_MARK).read_text(encoding="ascii").strip()[:64] or None
    except (OSError, ValueError):
        return None


class WaysChanged(Exception):
    """Files travel in another way between this worker and its server."""

    def __init__(self) -> None:
        super().__init__("files travel in another way from now on: the worker has to start again")


class Agent:
    """Claims and supervises until `stop` is called."""

    def __init__(self, settings: WorkerSettings, client: WorkerClient) -> None:
        self._settings, self._client = settings, client
        self._stopping = threading.Event()
        self._lifetime = Lifetime(settings.bounds)
        self._gpus = Gpus(settings.slots, Fitness(self._stopping))
        self._failure: Exception | None = None
        self._ids: list[str] = []  # as it registered, the last one last
        self._room = Room(settings.data)
        self._sweeping = threading.Lock()  # against a job that begins

    def run(self) -> None:
        """Work until told to stop.

        Raises:
            AlreadyRunning, GpusGone, ServerRefused
        """
        with own_name(self._settings) as self._settings:
            self._gpus.remember(self._settings.state_folder, socket.gethostname())
            threading.Thread(target=self._stop_in_time, daemon=True).start()
            terms = self._register()
            if terms is None:
                return
            self._room = Room.of(self._settings, terms.files)
            self._hand_back_leftovers()
            self._room.sweep()
            clear_abandoned(self._settings.state_folder)
            slots = [
                threading.Thread(target=self._keep_working, args=(slot, terms), name=f"slot-{slot}")
                for slot in range(self._settings.slots)
            ]
            if self._gpus.told:
                threading.Thread(target=self._tell_vitals, daemon=True).start()
            threading.Thread(target=self._keep_wandb_told, daemon=True).start()
            for slot in slots:
                slot.start()
            leaving = threading.Thread(target=self._leave, daemon=True)
            leaving.start()
            for slot in slots:
                slot.join()
            self._stopping.set()
            leaving.join()
            if self._failure is not None:
                raise self._failure

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop the training processes after their epoch, hand the jobs back, and end."""
        self._stopping.set()

    def _stop_in_time(self) -> None:
        """Where the agent has an end, stop before it."""
        while (left_s := self._lifetime.left_s) is not None:
            if not left_s:
                logger.info("its time is nearly over: jobs are handed back")
                self.stop()
                return
            self._stopping.wait(min(left_s, CLOCK_INTERVAL_S))  # the host's clock may be set

    def _register(self) -> WorkerTerms | None:
        with proof(self._settings.data) as seen:
            return self._register_with(seen)

    def _register_with(self, seen: str) -> WorkerTerms | None:
        registration = WorkerRegistration(
            name=self._settings.name,
            host=socket.gethostname()[:200],
            folder=_folder_id(self._settings.data),
            proof=seen,
            slots=self._settings.slots,
            gpus=self._gpus.told,
            memory_bytes=memory_bytes(),
            versions={name: version(name) for name in ("orrery", "torch")},
            labels=self._settings.labels,
        )
        back_off = BackOff(self._stopping)
        while not self._stopping.is_set():
            try:
                terms = self._client.register(registration)
            except Unreachable:
                if (reason := self._lifetime.over()) is not None:
                    logger.info("the server does not answer, and %s", reason)
                    return None
                back_off.wait()
            else:
                sends = "" if terms.files == "shared" else "; its folder is its own: files are sent"
                self._ids.append(terms.id)
                logger.info("registered as %s%s", terms.id, sends)
                return terms
        return None

    def _leave(self) -> None:
        """Tell the server as soon as no more jobs are taken: it answers the slots that wait."""
        self._stopping.wait()
        for worker_id in reversed(self._ids):
            self._client.leave(worker_id)

    def _registered_anew(self, before: WorkerTerms) -> WorkerTerms:
        """Terms of a server that does not know this worker any more.

        Raises:
            WaysChanged
        """
        terms = self._register() or before
        if terms.files != before.files:
            raise WaysChanged
        return terms

    def _tell_vitals(self) -> None:
        """Say how the GPUs are doing, now and then; nothing depends on it."""
        while True:
            try:
                self._client.tell_vitals(self._ids[-1], self._gpus.vitals())
            except (Unreachable, ServerRefused, ValueError) as error:
                logger.debug("cannot tell how the GPUs are doing: %s", error)
            if self._stopping.wait(VITALS_INTERVAL_S):
                return

    def _keep_wandb_told(self) -> None:
        """What earlier processes left to tell W&B, when they were killed or could not reach it."""
        telling: subprocess.Popen[bytes] | None = None
        while True:
            try:
                is_idle = telling is None or telling.poll() is not None
                if is_idle and untold(self._room.data):
                    telling = start_telling(self._room.data)
            except OSError as error:
                logger.warning("cannot look what W&B is still to be told: %s", error)
            if self._stopping.wait(WANDB_INTERVAL_S):
                return

    def _keep_working(self, slot: int, terms: WorkerTerms) -> None:
        """A slot that fails takes the agent down with it, for its supervisor to start again."""
        try:
            self._work(slot, terms)
        except Exception as error:
            logger.exception("slot %d failed", slot)
            self._failure = error
            self.stop()

    def _work(self, slot: int, terms: WorkerTerms) -> None:
        """One slot: claim, supervise, again."""
        back_off = BackOff(self._stopping)
        claim_id = uuid4().hex
        while not self._stopping.is_set():
            is_fit = self._gpus.is_fit(slot)
            if (reason := self._lifetime.ask() if is_fit else self._lifetime.over()) is not None:
                logger.info("slot %d ends: %s", slot, reason)
                return
            if not is_fit:
                self._stopping.wait(UNFIT_S)
                continue
            assignment = None
            try:
                wait_s = min(terms.claim_wait_s, self._lifetime.patience_s)
                left_s = self._lifetime.left_s
                assignment = self._client.claim(terms.id, claim_id, wait_s, left_s)
            except NotRegistered:
                terms = self._registered_anew(terms)
                continue
            except Unreachable:
                back_off.wait()
                continue
            except ServerRefused as error:
                logger.warning("cannot claim: %s; trying again", error)
                back_off.wait()
                continue
            finally:
                self._lifetime.got(one=assignment is not None)
            if assignment is not None:
                claim_id = uuid4().hex
                is_fit = self._supervise(slot, assignment, terms)
                self._lifetime.done()
                if not is_fit:
                    back_off.wait()
                    continue
            back_off.reset()

    def _supervise(self, slot: int, assignment: Assignment, terms: WorkerTerms) -> bool:
        """Run one attempt to its end, and tell the server how it ended.

        Returns:
            Whether this host is fit for the next job.
        """
        of_job = {"job_id": assignment.job}
        logger.info("job %s, attempt %d", assignment.job, assignment.attempt, extra=of_job)
        state = self._settings.state_folder / assignment.lease_id
        with self._sweeping:
            state.mkdir(parents=True, exist_ok=True)
        files = self._room.transport(self._client, assignment.lease_id)
        reporter = Reporter(self._client, assignment.lease_id, state, files)
        attempt: Attempt | None = None
        delivered = True
        try:
            alive = KeepAlive(reporter, terms.heartbeat_interval_s, self._stopping)
            self._room.furnish(self._client, assignment, alive, self._stopping)
            attempt = Attempt(
                assignment,
                terms,
                self._room.data,
                state,
                self._settings.threads,
                self._gpus.place_of(slot),
                self._stopping,
            )
            outcome = attempt.supervise(reporter, lambda ended: self._gpus.explain(slot, ended))
            told = f"{outcome.status}, {outcome.stop_reason}"
            detail = f": {outcome.detail}" if outcome.detail else ""
            logger.info("job %s ended: %s%s", assignment.job, told, detail, extra=of_job)
            delivered = self._settle(reporter, outcome, assignment.job)
        except LeaseEnded:
            what = "the lease of job %s is lost; its process is ended"
            logger.warning(what, assignment.job, extra=of_job)
        except Interrupted as interruption:
            delivered = self._settle(reporter, interruption.outcome, assignment.job)
        except (ServerRefused, Unreachable, OSError) as error:
            logger.exception("job %s cannot go on", assignment.job, extra=of_job)
            if attempt is not None:
                attempt.kill()
            self._give_up(reporter, error, began=attempt is not None)
        finally:
            if attempt is not None:
                attempt.kill()
                attempt.close()
            files.close()
        if delivered:
            shutil.rmtree(state, ignore_errors=True)
            self._room.leave(assignment)
            with self._sweeping:
                if not any(self._settings.state_folder.glob("lease_*")):  # of another slot
                    self._room.sweep()
        return attempt is not None

    def _give_up(self, reporter: Reporter, error: Exception, *, began: bool) -> None:
        """End an attempt that this host cannot run; where that fails, its lease runs out.

        What never began here goes back to the queue: another host may be able to run it.
        """
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        outcome = Outcome(
            status="failed" if began else "stopped",
            stop_reason=StopReason.DISK_FULL if full else StopReason.ERROR,
            detail=f"the worker cannot go on: {error}"[:4000],
        )
        try:
            reporter.finish(outcome)
        except (ServerRefused, Unreachable) as refusal:
            logger.warning("cannot give the job back: %s", refusal)

    def _settle(self, reporter: Reporter, outcome: Outcome, job: str | None = None) -> bool:
        """Deliver all that is left and the outcome, as long as it takes; a farewell is short.

        Args:
            job: whose outcome it is, where that is known.

        Returns:
            Whether it was delivered.
        """
        back_off = BackOff(self._stopping)
        farewell_until: float | None = None
        leave_at: float | None = None  # with files still under way

        def may_wait() -> bool:
            nonlocal leave_at
            if self._stopping.is_set():
                leave_at = leave_at or time.monotonic() + FAREWELL_OF_FILES_S
            return leave_at is None or time.monotonic() < leave_at

        while True:
            try:
                status = reporter.settle(outcome, may_wait)
            except Unfinished:
                return False
            except Unreachable:
                if self._stopping.is_set():
                    farewell_until = farewell_until or time.monotonic() + FAREWELL_S
                    if time.monotonic() > farewell_until:
                        return False
                    time.sleep(LOOK_S)
                else:
                    back_off.wait()
            else:
                if job is not None and status in TERMINAL:
                    journal = Journal.of(self._room.data, job)
                    journal.mark_over()
                    journal.remove_if_settled()  # its process may have been the first to know
                return True

    def _hand_back_leftovers(self) -> None:
        """Attempts of an agent that died: deliver what their spools hold, hand the jobs back."""
        for state in sorted(self._settings.state_folder.glob("lease_*")):
            files = self._room.transport(self._client, state.name)
            reporter = Reporter(self._client, state.name, state, files)
            outcome = reporter.recorded_outcome() or Outcome(
                status="failed",
                stop_reason=StopReason.WORKER_LOST,
                detail="the worker's agent died and was started again",
            )
            delivered = True
            try:
                delivered = self._settle(reporter, outcome)
            except (ServerRefused, ValueError) as error:
                logger.info("an earlier attempt cannot be handed back: %s", error)
            finally:
                files.close()
            if delivered:
                shutil.rmtree(state, ignore_errors=True)
