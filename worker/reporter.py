"""From spool and log to reports: batches, in order, confirmed by the server before the next."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbody.metrics import EpochMetrics
from nbody.watcher import Phase
from server.wire.history import Whereabouts
from server.wire.states import JobStatus
from server.wire.workers import (
    MAX_LOG_BYTES_IN_REPORT,
    ArtifactReport,
    CheckpointReport,
    LogBytes,
    Note,
    Outcome,
    Report,
    ReportAnswer,
)
from worker.client import WorkerClient
from worker.files.transport import FileTransport
from worker.spool import LogReader, ProgressFile, Record, SpoolReader, recorded_outcome

OF_FILES = frozenset({"checkpoint", "artifact"})
WAIT_S = 1.0  # between reports, while files are under way
MOST_RECORDS = 90  # of one report; under the protocol's limits on epochs and on checkpoints


class Unfinished(Exception):
    """Files are still under way."""


class Reporter:
    """Delivers one attempt's spool and log.

    Args:
        files: how those get to the server that the spool tells of.
    """

    def __init__(
        self, client: WorkerClient, lease_id: str, state: Path, files: FileTransport
    ) -> None:
        self._client, self._lease_id, self._files = client, lease_id, files
        self._spool_path = state / "spool.jsonl"
        self._spool = SpoolReader(self._spool_path)
        self._log = LogReader(state / "output.log")
        self._progress = ProgressFile(state / "progress")

    def deliver(self) -> ReportAnswer:
        """Send everything that is there, or an empty heartbeat; returns the server's last answer.

        Raises:
            LeaseEnded, ServerRefused, Unreachable: what was not confirmed is sent again next time.
        """
        while True:
            records = self._spool.peek(MOST_RECORDS)
            log = self._log.peek(MAX_LOG_BYTES_IN_REPORT)
            told = [record for record in records if record["kind"] not in OF_FILES]
            for record in records:
                if record["kind"] in OF_FILES:
                    self._files.offer(record)
            arrived = self._files.arrived()[:MOST_RECORDS]
            answer = self._client.report(self._lease_id, self._report([*told, *arrived], log))
            self._spool.confirm()
            self._files.confirm(len(arrived))
            self._log.confirm(len(log))
            if len(records) < MOST_RECORDS and len(log) < MAX_LOG_BYTES_IN_REPORT:
                return answer

    def has_news(self) -> bool:
        """Whether there is something that is not confirmed."""
        return bool(self._spool.peek(1)) or self._files.has_news()

    def settle(self, outcome: Outcome, may_wait: Callable[[], bool]) -> JobStatus:
        """Deliver the rest, and the outcome; returns the job's status. Can be repeated.

        Args:
            may_wait: asked about once a second, while files are under way.

        Raises:
            LeaseEnded, ServerRefused, Unreachable
            Unfinished: it may not wait, and files are still under way.
        """
        drop_at: float | None = None
        while True:
            answer = self.deliver()
            if answer.command is not None and answer.command.action == "cancel":
                drop_at = drop_at or time.monotonic() + answer.command.grace_s
            if drop_at is not None and time.monotonic() > drop_at:
                self._files.drop()
            if self._files.wait(WAIT_S):
                return self.finish(outcome)
            if not may_wait():
                raise Unfinished

    def finish(self, outcome: Outcome) -> JobStatus:
        """Deliver the outcome alone."""
        return self._client.finish(self._lease_id, outcome)

    def recorded_outcome(self) -> Outcome | None:
        """The outcome that the process wrote before it left, if it got that far."""
        outcome = recorded_outcome(self._spool_path)
        return None if outcome is None else Outcome.model_validate(outcome)

    def _report(self, records: list[Record], log: bytes) -> Report:
        fields: dict[str, Any] = {}
        for record in records:
            if record["kind"] == "begin":
                begun = record["data"]
                fields["first_epoch"] = begun["first_epoch"]
                if "whereabouts" in begun:
                    fields["whereabouts"] = Whereabouts.model_validate(begun["whereabouts"])
            elif record["kind"] == "epoch":
                epoch = EpochMetrics.model_validate(record["data"])
                fields.setdefault("epochs", []).append(epoch)
            elif record["kind"] == "checkpoint":
                checkpoint = CheckpointReport.model_validate(record["data"])
                fields.setdefault("checkpoints", []).append(checkpoint)
            elif record["kind"] == "artifact":
                artifact = ArtifactReport.model_validate(record["data"])
                fields.setdefault("artifacts", []).append(artifact)
            elif record["kind"] == "note":
                fields.setdefault("notes", []).append(Note.model_validate(record["data"]))
        if log:
            fields["log"] = LogBytes.model_construct(offset=self._log.offset, data=log)
        progress = self._progress.read()
        if progress is not None:
            fields["phase"] = Phase(progress[1])
        return Report.model_construct(_fields_set=set(fields), **fields)
