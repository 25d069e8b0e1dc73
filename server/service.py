"""The running service: database, tokens, leases, and who waits for what. Made once per process."""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from nbody.durable_file import make_folder_durably
from server.access import secret_files, tokens
from server.access.caller_shares import CallerShares
from server.access.roles import CALLER, Principal
from server.access.sessions import Sessions
from server.data_folder import file_size, folder_id, locate
from server.database import identity
from server.database.engines import READERS
from server.database.filesystems import check_local
from server.database.folder_lock import FolderLock
from server.database.migrate import migrate
from server.database.space import can_shrink
from server.database.trouble import failures_told
from server.database.writer import Database
from server.errors import NotFound, ReportConflict
from server.loop_lag import LoopLag
from server.queue import ending, reports
from server.queue.changes import Changes
from server.queue.leases import Leases
from server.queue.limits import Limits
from server.queue.own_silence import OwnSilence
from server.settings import ServerSettings
from server.store.kept_files import KeptFiles
from server.store.mover import Mover
from server.sweeps.driver import SweepDriver
from server.telemetry import Telemetry
from server.upkeep.chores import Chores
from server.views.shared_looks import SharedLooks
from server.views.waiting import Waiting, WorkersHere
from server.wire.workers import CheckpointReport, GpuVitals, Report, ReportAnswer

Result = TypeVar("Result")
LOOK_INTERVAL_S = 0.5
READY_S = 1.0  # for which a write tells that the next one would work
MARK_INTERVAL_S = 1.0  # between marks of the database
MOST_EPOCHS_AT_ONCE = 100  # of a report that is written on the thread of the event loop
SILENCE_S = 86400.0  # after which a worker is not remembered

logger = logging.getLogger(__name__)


def prepare(settings: ServerSettings) -> FolderLock:
    """Make the server's own folder, take it, and look whether its database is whole and its own.

    Raises:
        OSError: the data folder cannot be written. NetworkFilesystem, FolderInUse, WrongDatabase,
            DatabaseDamaged. ValueError: a token file holds no token.
    """
    try:
        make_folder_durably(settings.state_folder, 0o700)
    except OSError as error:
        raise OSError(f"cannot use the data folder {settings.data}: {error.strerror}") from error
    check_local(settings.state_folder)
    lock = FolderLock(settings.state_folder, f"a server for {settings.host}:{settings.port}")
    try:
        identity.expect(settings.database_path, settings.folder_mark_path)
        shutil.rmtree(settings.uploads_folder, ignore_errors=True)  # of a server that was killed
        for path in (settings.admin_token_path, settings.worker_token_path):
            secret_files.check(path)
    except BaseException:
        lock.release()
        raise
    return lock


class Service:
    """What routes work with. `start` before the first request, `stop` after the last.

    Args:
        lock: of the data folder, where `prepare` was called before.
    """

    def __init__(self, settings: ServerSettings, lock: FolderLock | None = None) -> None:
        self.settings = settings
        self._lock = lock
        self.database = Database(settings.database_path)
        self.tokens = tokens.Tokens()
        self.sessions = Sessions(self.tokens)
        self.leases = Leases(settings.lease_ttl_s)
        self.changes = Changes()
        self.streams: SharedLooks[Any] = SharedLooks()
        self.telemetry = Telemetry()
        self.loop_lag = LoopLag()
        self.folder_id = ""  # that workers must see
        self.last_seen: dict[str, float] = {}
        self.vitals: dict[str, list[GpuVitals]] = {}
        self.workers_here = WorkersHere()
        self.limits = Limits(
            settings.max_queued_jobs, settings.max_row_bytes, settings.max_file_bytes
        )
        self.sweeps = SweepDriver(self.database, self.changes, self.limits)
        self.files = KeptFiles.of(settings)
        self.chores = Chores(settings, self.database, self.changes, self.last_seen, self.files)
        self._reads, self._thoughts = CallerShares(READERS // 2), CallerShares(1)
        self.uploads = CallerShares(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._loading_tokens = asyncio.Lock()
        self._checking = asyncio.Lock()
        self._written_at = -READY_S  # when a write was last seen to be durable [s, monotonic]
        self._marked_at = -1  # commits of the database

    async def start(self) -> None:
        """Migrate, check and open the database; load tokens and leases; start the tasks."""
        self._lock = self._lock or prepare(self.settings)
        path = self.settings.database_path
        identity.mark_open(path, is_open=False)
        migrate(path)
        can_shrink(path)
        self.folder_id = folder_id(self.settings.folder_mark_path)
        self.database.open()
        now = time.time()

        def load(connection: Connection) -> list[str]:
            paths = self.settings.admin_token_path, self.settings.worker_token_path
            for path, role in zip(paths, ("admin", "worker"), strict=True):
                secret_files.ensure_file_token(connection, path, role, now=now)
            if not self.settings.auth:
                tokens.ensure_local_admin(connection, now=now)
            self._load_access(connection)
            return ending.held_leases(connection)

        self.leases.restore(await self.database.write(load))
        await self._mark()
        identity.mark_open(path, is_open=True)
        self._tasks = [
            asyncio.create_task(self._watch_leases(), name="leases"),
            asyncio.create_task(self._keep_marking(), name="marks"),
            asyncio.create_task(self.loop_lag.watch(), name="loop-lag"),
            asyncio.create_task(self.sweeps.run(), name="sweeps"),
            asyncio.create_task(self.chores.keep_tidy(), name="retention"),
            asyncio.create_task(self.chores.keep_calling(), name="webhooks"),
        ]
        if self.files.store is not None:
            mover = Mover(self.settings.data, self.database, self.files.store)
            self._tasks.append(asyncio.create_task(mover.keep_moving(), name="store"))

    async def stop(self) -> None:
        """Finish what was acknowledged and close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            with failures_told(logger, "no last mark could be made"):
                await self._mark()
        await asyncio.to_thread(self.database.close)
        identity.mark_open(self.settings.database_path, is_open=False)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def write(self, work: Callable[[Connection], Result], *topics: str) -> Result:
        """Run a write; once it is durable, wake those who wait for the topics."""
        result = await self.database.write(work)
        for topic in topics:
            self.changes.notify(topic)
        return result

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run a read for whoever is being answered: many of one caller's wait for each other."""
        async with self._reads.share(CALLER.get()):
            return await self.database.read(work)

    async def think(self, work: Callable[[], Result]) -> Result:
        """Run what takes seconds of a processor, one thing of a caller at a time."""
        async with self._thoughts.share(CALLER.get()):
            return await asyncio.to_thread(work)

    def waiting(self, connection: Connection) -> Waiting:
        """What holds jobs up."""
        return Waiting(connection, self.settings.max_running_jobs, self.workers_here)

    async def take_report(self, lease_id: str, caller: Principal, report: Report) -> ReportAnswer:
        """Write what an attempt reports, renew its lease, and say what the server made of it.

        Raises:
            LeaseLost, ReportConflict: nothing was written.
        """

        if report.checkpoints or report.artifacts:
            report = await asyncio.to_thread(self._with_files_seen, report)

        def work(connection: Connection) -> reports.Recorded:
            done = reports.record(connection, lease_id, caller.token_id, report, now=time.time())
            self.leases.renew(lease_id, has_begun=done.last_epoch is not None)
            return done

        # The first one may have to delete what earlier attempts did.
        is_brief = self.leases.has_begun(lease_id) and len(report.epochs) <= MOST_EPOCHS_AT_ONCE
        is_brief &= not report.checkpoints and not report.artifacts
        done = await self.database.write(work, brief=is_brief)
        self.last_seen[done.worker_id] = time.time()
        if report.model_fields_set:
            self.changes.notify(done.job_id)
        return ReportAnswer(accepted_through=done.last_epoch, command=done.command)

    def _with_files_seen(self, report: Report) -> Report:
        """The report, if its files are in the server's folder; rolling ones may be gone by now.

        Raises:
            ReportConflict
        """
        seen: list[CheckpointReport] = []
        for file in (*report.checkpoints, *report.artifacts):
            rolls = isinstance(file, CheckpointReport) and file.rolling
            try:
                locate(self.settings.data, file.path, file.bytes)
            except NotFound as error:
                if not rolls:
                    what = f"The server does not see what was reported: {error}"
                    raise ReportConflict(what) from None
            else:
                seen += [file] if isinstance(file, CheckpointReport) else []
        return report.model_copy(update={"checkpoints": seen})

    async def has(self, path: str, size: int) -> bool:
        """Whether a file of a row is there, in the data folder or in the store.

        Raises:
            StoreUnavailable
        """
        if file_size(self.settings.data / path) == size:
            return True
        store = self.files.store
        return store is not None and await store.size_soon(path) == size

    async def expire_leases(self) -> list[str]:
        """Take jobs from workers that were not heard of. Returns those jobs' ids."""
        lost: list[str] = []
        for lease_id in self.leases.expired():
            job_id = await self.write(partial(self._lose, lease_id), Changes.QUEUE)
            if job_id is not None:
                logger.warning("lease of job %s expired", job_id, extra={"job_id": job_id})
                self.changes.notify(job_id)
                lost.append(job_id)
        return lost

    def _lose(self, lease_id: str, connection: Connection) -> str | None:
        """Inside a write, as reports renew leases: one of the two comes first."""
        if not self.leases.is_expired(lease_id):
            return None
        self.leases.release(lease_id)
        return ending.lose(connection, lease_id, now=time.time())

    def is_welcome(self, caller: Principal) -> bool:
        """Whether somebody who was let in before still may be here."""
        return not self.settings.auth or self.sessions.holds(caller, time.time())

    def heard_of(self, worker_id: str, now: float) -> None:
        """A worker was heard of; those that were not for a day are forgotten."""
        self.last_seen[worker_id] = now
        for silent in [w for w, seen in self.last_seen.items() if now - seen > SILENCE_S]:
            self.last_seen.pop(silent)
            self.vitals.pop(silent, None)

    async def reload_tokens(self) -> None:
        """Take over what changed of tokens and sessions; one at a time, so that the last wins."""
        async with self._loading_tokens:
            await self.read(self._load_access)

    def _load_access(self, connection: Connection) -> None:
        self.tokens.load(connection)
        self.sessions.load(connection)

    async def check_writes(self) -> None:
        """Look whether something can be written durably; those who ask at a time share a look.

        Raises:
            what the write raises.
        """
        async with self._checking:
            if time.monotonic() - self._written_at > READY_S:
                await self.database.write(identity.advance)
                self._written_at = time.monotonic()

    async def _mark(self) -> None:
        """Where something was written since the last mark: another one, first in the database."""
        if self.database.commits == self._marked_at:
            return
        before = self.database.commits
        known = await self.database.write(identity.advance)
        self._marked_at = before + 1  # if others came between, the next look makes another
        await asyncio.to_thread(identity.keep, self.settings.database_path, known)

    async def _keep_marking(self) -> None:
        while True:
            await asyncio.sleep(MARK_INTERVAL_S)
            with failures_told(logger, "no mark could be made of how far the database is"):
                await self._mark()

    async def _watch_leases(self) -> None:
        silence = OwnSilence(min(LOOK_INTERVAL_S, self.settings.lease_ttl_s / 4))
        while True:
            await asyncio.sleep(silence.interval_s)
            if away := silence.look(self.database.busy_since):
                self.leases.excuse(away)
            with failures_told(logger, "a look at the leases failed; the next one tries again"):
                await self.expire_leases()
