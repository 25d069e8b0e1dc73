"""Any order of events, on a real database: what must hold all the same."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select, text

from server.access import tokens
from server.database.engines import write_engine
from server.database.migrate import migrate
from server.database.tables import attempts as attempt_table
from server.database.tables import epochs, events
from server.database.tables import jobs as job_table
from server.errors import Conflict, LeaseLost, ReportConflict
from server.queue import claims, ending, job_actions, reports
from server.queue.submission import submit
from server.queue.transitions import TRANSITIONS, Trigger, next_status
from server.queue.workers import ANYTHING
from server.wire.jobs import JobSubmission
from server.wire.states import LEASED, TERMINAL, JobStatus
from server.wire.workers import Outcome, Report
from tests.server.conftest import TINY, epoch_metrics

# The table of the interface, by hand.
MOVES = {
    ("queued", "running"),
    ("queued", "paused"),
    ("queued", "cancelled"),
    ("running", "pausing"),
    ("running", "cancelling"),
    ("pausing", "cancelling"),
    ("pausing", "paused"),
    ("cancelling", "cancelled"),
    ("paused", "queued"),
    ("paused", "cancelled"),
    ("running", "succeeded"),
    ("pausing", "succeeded"),
    ("cancelling", "succeeded"),
    ("running", "failed"),
    ("pausing", "failed"),
    ("cancelling", "failed"),
    ("running", "queued"),
}
# What a pause and a resume lead to; from elsewhere they are refused.
PAUSED_BY = {"queued": "paused", "running": "pausing", "pausing": "pausing", "paused": "paused"}
RESUMED_BY = {"paused": "queued", "queued": "queued", "running": "running"}
BY_USER = {
    ("queued", "pause"): "paused",
    ("queued", "cancel"): "cancelled",
    ("running", "pause"): "pausing",
    ("running", "cancel"): "cancelling",
    ("pausing", "cancel"): "cancelling",
    ("paused", "resume"): "queued",
    ("paused", "cancel"): "cancelled",
}
BY_EXPIRY = {
    ("running", "lost"): "queued",
    ("running", "give_up"): "failed",
    ("pausing", "lost"): "paused",
    ("pausing", "give_up"): "paused",
    ("cancelling", "lost"): "cancelled",
    ("cancelling", "give_up"): "cancelled",
}
STATUS_OF_EVENT = {"submitted": "queued", "started": "running"} | {
    status.value: status.value for status in JobStatus
}


def test_jobs_move_as_the_interface_says_and_in_no_other_way() -> None:
    assert {(begin.value, end.value) for (begin, _), end in TRANSITIONS.items()} == MOVES


def test_only_users_cancel_pause_and_resume() -> None:
    for triggers, moves in (({"cancel", "pause", "resume"}, BY_USER), ({"claim"}, None)):
        found = {
            (begin.value, trigger.value): end.value
            for (begin, trigger), end in TRANSITIONS.items()
            if trigger.value in triggers
        }
        assert found == ({("queued", "claim"): "running"} if moves is None else moves)


def test_an_expired_lease_moves_every_leased_state() -> None:
    found = {
        (begin.value, trigger.value): end.value
        for (begin, trigger), end in TRANSITIONS.items()
        if trigger in {Trigger.LOST, Trigger.GIVE_UP}
    }
    assert found == BY_EXPIRY


@pytest.mark.parametrize("trigger", list(Trigger))
def test_nothing_moves_a_job_that_is_over(trigger: Trigger) -> None:
    assert {next_status(status, trigger) for status in TERMINAL} == {None}


def test_every_state_is_either_over_or_can_be_left() -> None:
    assert {begin for begin, _ in TRANSITIONS} == set(JobStatus) - TERMINAL


# What each worker can take.
HOLDS = {
    "worker_a": replace(ANYTHING, memory={**ANYTHING.memory, "cuda": 0}),
    "worker_b": ANYTHING,
}


class Queue(RuleBasedStateMachine):
    """Users, two workers and the lease sweeper, each calling when it likes."""

    job_ids: Bundle[str] = Bundle("job_ids")
    leases: Bundle[tuple[str, str]] = Bundle("leases")

    template: Path
    steps = 0  # of all examples

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=self.template.parent)
        path = Path(self.folder.name) / "orrery.db"
        shutil.copy(self.template, path)
        self.engine = write_engine(path)
        self.now = 1.0
        self.rows: dict[str, dict[str, Any]] = {}
        self.reported: dict[tuple[str, int], float] = {}
        self.lost: set[str] = set()  # back in the queue after an attempt
        self.entered: dict[str, int] = {}  # which job went to the end of the queue before which
        self.last_event = 0

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    @rule(
        target=job_ids,
        priority=st.integers(-1, 1),
        max_attempts=st.integers(1, 3),
        owner=st.sampled_from(["token_x", "token_y"]),
        device=st.sampled_from(["auto", "cuda"]),
    )
    def submit(self, priority: int, max_attempts: int, owner: str, device: str) -> str:
        config = {**TINY, "device": device}
        submission = JobSubmission.model_validate(
            {"config": config, "priority": priority, "max_attempts": max_attempts}
        )
        with self.engine.begin() as connection:
            return submit(connection, submission, owner_id=owner, now=self.tick())

    @rule(target=leases, worker=st.sampled_from(["worker_a", "worker_b"]), number=st.integers(0, 5))
    def claim(self, worker: str, number: int) -> Any:
        with self.engine.begin() as connection:
            known = connection.execute(
                select(attempt_table.c.lease_id).where(
                    attempt_table.c.worker_id == worker, attempt_table.c.claim_id == f"c{number}"
                )
            ).scalar()
            claimed = claims.claim(
                connection, worker, f"c{number}", now=self.tick(), capacity=HOLDS[worker]
            )
        if claimed is None:
            assert known is not None or not self._waiting(worker)
            return multiple()
        job, attempt = claimed
        assert job.status in LEASED
        assert job.lease_id == attempt.lease_id
        if known is None:
            self._check_turn(job.id, worker)
        else:
            assert attempt.lease_id == known
        return job.id, attempt.lease_id

    def _waiting(self, worker: str) -> dict[str, dict[str, Any]]:
        """Jobs that the worker could take."""
        devices = ["auto"] if worker == "worker_a" else ["auto", "cuda"]
        return {
            job: row
            for job, row in self.rows.items()
            if row["status"] == "queued" and row["device"] in devices
        }

    def _check_turn(self, job_id: str, worker: str) -> None:
        """The highest priority first; then, of each owner, who entered the queue first.

        But one that lost its worker had its turn, and may stand before.
        """
        waiting = self._waiting(worker)
        taken = waiting[job_id]
        assert taken["queue_rank"] == min(row["queue_rank"] for row in waiting.values())
        if job_id not in self.lost:
            line = ("owner_id", "queue_rank")
            own = [job for job, row in waiting.items() if all(row[n] == taken[n] for n in line)]
            assert job_id == min(own, key=self.entered.__getitem__)

    @rule(lease=leases, first=st.integers(0, 3), value=st.sampled_from([1.0, 2.0]))
    def begin_and_report(self, lease: tuple[str, str], first: int, value: float) -> None:
        self._report(lease, first, [first], value)

    @rule(
        lease=leases,
        numbers=st.lists(st.integers(0, 4), max_size=3),
        value=st.sampled_from([1.0, 2.0]),
    )
    def report(self, lease: tuple[str, str], numbers: list[int], value: float) -> None:
        self._report(lease, None, numbers, value)

    def _report(
        self, lease: tuple[str, str], first: int | None, numbers: list[int], value: float
    ) -> None:
        job_id, lease_id = lease
        message = Report.model_validate(
            {
                "first_epoch": first,
                "epochs": [epoch_metrics(number, epoch_time=value) for number in numbers],
            }
        )
        held = self.rows[job_id]["lease_id"] == lease_id
        before = dict(self.reported)
        try:
            with self.engine.begin() as connection:
                began = connection.execute(
                    select(attempt_table.c.first_epoch, attempt_table.c.number).where(
                        attempt_table.c.lease_id == lease_id
                    )
                ).one()
                reports.record(connection, lease_id, "token_w", message, now=self.tick())
        except LeaseLost:
            assert not held
        except Conflict:
            assert held
            assert self._conflicts(before, job_id, numbers, value, first, began.first_epoch)
        else:
            assert held
            start = min(numbers, default=None) if first is None else first
            if start is not None and began.first_epoch is None:
                for job, number in before:
                    if job == job_id and number >= start:
                        del self.reported[job, number]
            self.reported |= {(job_id, number): value for number in numbers}

    def _conflicts(
        self,
        before: dict[tuple[str, int], float],
        job_id: str,
        numbers: list[int],
        value: float,
        first: int | None,
        began: int | None,
    ) -> bool:
        """Whether there was a reason to refuse."""
        return (
            len(set(numbers)) < len(numbers)
            or 4 in numbers
            or any(before.get((job_id, number), value) != value for number in numbers)
            or (first is not None and began is not None and first != began)
        )

    @rule(
        lease=leases,
        outcome=st.sampled_from(
            [
                ("succeeded", "completed"),
                ("failed", "oom"),
                ("failed", "stalled"),
                ("stopped", "user"),
            ]
        ),
    )
    def finish(self, lease: tuple[str, str], outcome: tuple[str, str]) -> None:
        job_id, lease_id = lease
        message = Outcome.model_validate({"status": outcome[0], "stop_reason": outcome[1]})
        held = self.rows[job_id]["lease_id"] == lease_id
        try:
            with self.engine.begin() as connection:
                status = ending.finish(connection, lease_id, message, now=self.tick())
            with self.engine.begin() as connection:
                assert ending.finish(connection, lease_id, message, now=self.tick()) == status
        except (LeaseLost, ReportConflict):
            assert not held

    @rule(lease=leases)
    def lose(self, lease: tuple[str, str]) -> None:
        held = self.rows[lease[0]]["lease_id"] == lease[1]
        with self.engine.begin() as connection:
            lost = ending.lose(connection, lease[1], now=self.tick())
        assert lost == (lease[0] if held else None)

    @rule(job_id=job_ids, grace_s=st.sampled_from([0.0, 5.0]))
    def cancel(self, job_id: str, grace_s: float) -> None:
        with self.engine.begin() as connection:
            row = connection.execute(select(job_table).where(job_table.c.id == job_id)).one()
            if row.status in {"succeeded", "failed"}:
                with pytest.raises(Conflict):
                    job_actions.cancel(connection, row, grace_s, now=self.tick())
            else:
                after = job_actions.cancel(connection, row, grace_s, now=self.tick())
                assert after in {"cancelling", "cancelled"}

    @rule(job_id=job_ids, action=st.sampled_from(["pause", "resume"]))
    def pause_or_resume(self, job_id: str, action: str) -> None:
        act = job_actions.pause if action == "pause" else job_actions.resume
        done = PAUSED_BY if action == "pause" else RESUMED_BY
        with self.engine.begin() as connection:
            row = connection.execute(select(job_table).where(job_table.c.id == job_id)).one()
            if row.status in done:
                assert act(connection, row, now=self.tick()) == done[row.status]
            else:
                with pytest.raises(Conflict):
                    act(connection, row, now=self.tick())

    @invariant()
    def every_change_is_legal_and_has_its_event(self) -> None:
        Queue.steps += 1
        with self.engine.begin() as connection:
            rows = {
                row["id"]: dict(row)
                for row in connection.execute(select(job_table)).mappings().all()
            }
            fresh = connection.execute(
                select(events).where(events.c.id > self.last_event).order_by(events.c.id)
            ).all()
            self._check_leases(connection, rows)
            self._check_epochs(connection)
        for job_id, row in rows.items():
            before = self.rows.get(job_id)
            story = [
                STATUS_OF_EVENT[event.type]
                for event in fresh
                if event.job_id == job_id and event.type in STATUS_OF_EVENT
            ]
            if before is None:
                assert story == ["queued"]
                self.entered[job_id] = self.steps
            elif before["status"] in TERMINAL:
                assert row == before
                assert story == []
            elif before["status"] != row["status"]:
                assert (before["status"], row["status"]) in MOVES
                assert story == [row["status"]]
                assert row["version"] > before["version"]
                self.lost.discard(job_id)
                if row["status"] == "queued":
                    if before["status"] == "paused":
                        self.entered[job_id] = self.steps
                    else:
                        self.lost.add(job_id)
            else:
                assert story == []
            if row["status"] in TERMINAL:
                assert row["finished_at"] is not None
                assert row["stop_reason"] is not None
        self.rows = rows
        self.last_event = max((event.id for event in fresh), default=self.last_event)

    def _check_leases(self, connection: Connection, rows: dict[str, dict[str, Any]]) -> None:
        unended = connection.execute(
            select(attempt_table.c.job_id, attempt_table.c.lease_id).where(
                attempt_table.c.ended_at.is_(None)
            )
        ).all()
        held = {row["id"]: row["lease_id"] for row in rows.values() if row["lease_id"] is not None}
        assert sorted((a.job_id, a.lease_id) for a in unended) == sorted(held.items())
        assert {row["id"] for row in rows.values() if row["status"] in LEASED} == set(held)
        for row in rows.values():
            assert row["failures"] <= row["max_attempts"]

    def _check_epochs(self, connection: Connection) -> None:
        found = connection.execute(select(epochs)).all()
        assert len({(row.job_id, row.epoch) for row in found}) == len(found)
        assert {(row.job_id, row.epoch): row.epoch_time for row in found} == self.reported


def make_template(folder: Path) -> Path:
    """A database with a user and two workers, in one file."""
    path = folder / "orrery.db"
    migrate(path)
    engine = write_engine(path)
    worker = text(
        "INSERT INTO workers (id, name, token_id, host, slots, gpus, versions, registered_at) "
        "VALUES (:id, :id, 'token_w', 'here', 1, '[]', '{}', 0)"
    )
    with engine.begin() as connection:
        tokens.create_token(connection, "x", "user", now=0.0)
        connection.execute(text("UPDATE tokens SET id = 'token_w'"))
        for name in ("worker_a", "worker_b"):
            connection.execute(worker, {"id": name})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    return path


@pytest.mark.slow
def test_the_queue_keeps_its_promises_in_any_order_of_events(tmp_path: Path) -> None:
    Queue.template = make_template(tmp_path)
    limits = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Queue, settings=limits)
