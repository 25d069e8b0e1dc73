"""One writer, group commit, readers that cannot write, and what a crash leaves."""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from server.database.engines import DatabaseDamaged, check_integrity, driver_of, write_engine
from server.database.migrate import migrate
from server.database.writer import Database, _Waiting
from server.queue import job_rows
from server.queue.fair_turns import HAD_TURN
from server.queue.idempotency import Key, made_before
from server.service import Service
from server.settings import ServerSettings
from tests.server.conftest import OrreryServer, checkpoint, epoch_metrics, log_bytes

SCAN = re.compile(r"SCAN (jobs|epochs|events|log_chunks|attempts|checkpoints)\b")
TABLE = "CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY)"
WRITER = """
import sys
from pathlib import Path
from sqlalchemy import text
from server.database.writer import Database

database = Database(Path(sys.argv[1]))
database.open()
for number in range(int(sys.argv[2]), 10**9):
    insert = text("INSERT INTO notes VALUES (:n)").bindparams(n=number)
    database.submit(lambda c, insert=insert: c.execute(insert) and None).result()
    print(number, flush=True)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "orrery.db")
    opened.open()
    opened.submit(lambda c: c.exec_driver_sql(TABLE) and None).result(10)
    yield opened
    opened.close()


def _insert(number: int) -> Any:
    return lambda c: c.exec_driver_sql("INSERT INTO notes VALUES (?)", (number,)) and None


def _fail(connection: Connection) -> None:
    _insert(99)(connection)
    raise LookupError("mine alone")


def _commits(database: Database) -> list[int]:
    """Grows with every commit."""
    commits: list[int] = []
    event.listen(database._writing, "commit", lambda _: commits.append(1))
    return commits


def _blocked(database: Database) -> "tuple[Future[None], threading.Event]":
    """A write that is under way until the event is set; others wait behind it."""
    entered, gate = threading.Event(), threading.Event()

    def block(_: Connection) -> None:
        entered.set()
        gate.wait(10)

    first = database.submit(block)
    assert entered.wait(10)
    return first, gate


def _numbers(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT number FROM notes ORDER BY number")]
    finally:
        connection.close()


def test_every_write_runs_in_the_one_writer_thread(database: Database) -> None:
    running = [database.submit(lambda _: threading.get_ident()) for _ in range(50)]
    assert len({future.result(10) for future in running}) == 1
    names = [thread.name for thread in threading.enumerate()]
    assert threading.get_ident() not in {future.result() for future in running}
    assert names.count("database-writer") >= 1


def test_writes_that_wait_are_committed_together_and_a_failing_one_spoils_no_other(
    database: Database,
) -> None:
    commits = _commits(database)
    first, gate = _blocked(database)

    good = [database.submit(_insert(number)) for number in range(10)]
    bad = database.submit(_fail)
    twice = database.submit(_insert(3))
    good += [database.submit(_insert(number)) for number in range(10, 20)]
    gate.set()
    wait([first, *good, bad, twice], 10)
    assert [future.exception() for future in good] == [None] * 20
    assert isinstance(bad.exception(), LookupError)
    assert isinstance(twice.exception(), DBAPIError)
    assert _numbers(database.path) == list(range(20))
    assert len(commits) == 2


def test_brief_writes_are_done_on_the_thread_of_their_loop_in_the_same_commit(
    database: Database,
) -> None:
    commits = _commits(database)
    first, gate = _blocked(database)

    async def write_all() -> list[Any]:
        works = [_insert(1), lambda _: threading.get_ident(), _fail, _insert(2)]
        writing = [asyncio.ensure_future(database.write(work, brief=True)) for work in works]
        writing.append(asyncio.ensure_future(database.write(lambda _: threading.get_ident())))
        writing.append(asyncio.ensure_future(database.write(_insert(3), brief=True)))
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*writing, return_exceptions=True)
        first.result(10)
        return answers

    _, here, error, _, elsewhere, _ = asyncio.run(write_all())
    assert here == threading.get_ident() != elsewhere
    assert isinstance(error, LookupError)
    assert _numbers(database.path) == [1, 2, 3]
    assert len(commits) == 2


def test_brief_writes_that_come_while_the_writer_waits_are_in_its_commit(
    database: Database,
) -> None:
    commits = _commits(database)
    first, gate = _blocked(database)

    async def write_both() -> None:
        one = asyncio.ensure_future(database.write(_insert(1), brief=True))
        await asyncio.sleep(0)
        gate.set()
        while database.waiting_writes:
            pass  # until the writer has taken it; it is done once this coroutine waits
        two = asyncio.get_running_loop().create_future()
        database._queue.put(_Waiting(_insert(2), two, two.get_loop()))
        await asyncio.gather(one, two)
        first.result(10)

    asyncio.run(write_both())
    assert _numbers(database.path) == [1, 2]
    assert len(commits) == 2  # what blocked, and both


def test_a_brief_write_whose_loop_is_gone_holds_nobody_up(database: Database) -> None:
    loop = asyncio.new_event_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    loop.close()
    database._queue.put(_Waiting(_insert(1), answer, loop))
    with contextlib.suppress(RuntimeError):
        database.submit(_insert(2)).result(10)
    database.submit(_insert(3)).result(10)
    assert _numbers(database.path)[-1] == 3


def test_an_acknowledged_write_is_committed(database: Database) -> None:
    for number in range(5):
        database.submit(_insert(number)).result(10)
        assert _numbers(database.path)[-1] == number


def test_closing_finishes_the_waiting_writes(tmp_path: Path, database: Database) -> None:
    waiting = [database.submit(_insert(number)) for number in range(100)]
    database.close()
    database.close()
    assert [future.exception(10) for future in waiting] == [None] * 100
    assert _numbers(database.path) == list(range(100))


def test_readers_cannot_write(database: Database) -> None:
    def try_to_write(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

    def insist(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

    for work in (try_to_write, insist):
        with pytest.raises(DBAPIError, match=r"readonly|read-only"):
            database.read_now(work)
    assert _numbers(database.path) == []


def test_a_reader_sees_one_state_while_writes_go_on(database: Database) -> None:
    def count_twice(connection: Connection) -> list[int]:
        counts = [connection.execute(text("SELECT count(*) FROM notes")).scalar_one()]
        database.submit(_insert(1)).result(10)
        counts.append(connection.execute(text("SELECT count(*) FROM notes")).scalar_one())
        return counts

    assert database.read_now(count_twice) == [0, 0]
    assert _numbers(database.path) == [1]


def test_the_writer_is_durable_and_strict(database: Database) -> None:
    def pragmas(connection: Connection) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "busy_timeout")
        return {n: connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in names}

    assert database.submit(pragmas).result(10) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "busy_timeout": 5000,
    }
    reading = database.read_now(pragmas)
    assert (reading["trusted_schema"], reading["busy_timeout"]) == (0, 5000)


@pytest.mark.parametrize("name", ["with space", "100%41", "a#b", "a?mode=memory", "Ζωή", "a&b=c"])
def test_the_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "orrery.db"
    migrate(path)
    database = Database(path)
    try:
        database.open()
        database.submit(lambda c: c.exec_driver_sql(TABLE) and None).result(10)
        database.submit(_insert(7)).result(10)
        read = database.read_now(lambda c: c.exec_driver_sql("SELECT * FROM notes").scalar_one())
    finally:
        database.close()
    assert read == 7
    assert path.is_file()


# --- damage and crashes -------------------------------------------------------------------------


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "garbage":
        content = bytearray(b"this is no database at all " * 400)
    elif how == "middle":
        content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    else:
        content = content[: len(content) // 2]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["garbage", "middle", "cut off"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, how: str) -> None:
    path = tmp_path / "orrery.db"
    migrate(path)
    _damage(path, how)
    with pytest.raises(DatabaseDamaged, match=r"orrery\.db is damaged .* restore a backup"):
        check_integrity(path)


@pytest.mark.parametrize("how", ["garbage", "middle", "cut off"])
def test_the_service_does_not_start_on_a_damaged_file(tmp_path: Path, how: str) -> None:
    settings = ServerSettings(data=tmp_path)
    migrate(settings.database_path)
    _damage(settings.database_path, how)
    service = Service(settings)

    async def start() -> None:
        try:
            await service.start()
        finally:
            await service.stop()

    with pytest.raises(DatabaseDamaged, match="is damaged"):
        asyncio.run(start())


@pytest.mark.slow
def test_acknowledged_rows_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "orrery.db"
    engine = write_engine(path)
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)
    engine.dispose()
    acknowledged: list[int] = []
    for rows in (20, 57):
        command = [sys.executable, "-c", WRITER, str(path), str(1000 * rows)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged += [int(process.stdout.readline()) for _ in range(rows)]
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        database = Database(path)
        database.open()
        database.close()
        kept = _numbers(path)
        assert set(acknowledged) <= set(kept)
        assert len(kept) <= len(acknowledged) + 2


# --- schema and queries -------------------------------------------------------------------------


def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "orrery.db"
    migrate(path)
    migrate(path)
    _expect_the_tables(path)


def test_a_migration_keeps_what_was_answered_before(tmp_path: Path) -> None:
    path = tmp_path / "orrery.db"
    migrate(path, "0004")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO jobs (id, version, kind, status, owner_id, queue_rank, max_attempts,"
            " failures, attempt, config, labels, warnings, epochs_total, epochs_done, log_bytes,"
            " created_at) VALUES ('job_1', 1, 'train', 'queued', 'token_1', 0, 3, 0, 0, '{}', '{}',"
            " '[]', 5, 0, 0, 1.0)"
        )
        connection.execute(
            "INSERT INTO idempotency_keys VALUES ('token_1', 'k', 'h', 'job_1', 1.0)"
        )
    migrate(path)
    engine = write_engine(path)
    with engine.begin() as connection:
        key = Key("token_1", "k", "h")
        assert made_before(connection, key) == "job_1"
        assert job_rows.get(connection, "job_1").queue_turn > HAD_TURN
        connection.exec_driver_sql("DELETE FROM jobs")
        assert made_before(connection, key) is None
    engine.dispose()


def test_a_database_of_the_first_step_0011_gets_the_columns_of_the_second(tmp_path: Path) -> None:
    path = tmp_path / "orrery.db"
    migrate(path, "0010")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE attempts ADD clock_steps_s FLOAT NOT NULL DEFAULT 0")
        connection.execute("UPDATE alembic_version SET version_num = '0011'")
    migrate(path)
    _expect_the_tables(path)


def _expect_the_tables(path: Path) -> None:
    """The schema of a file is that of the tables, and no row refers to nothing."""
    engine = write_engine(path)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    engine.dispose()


def _plans(server: OrreryServer, statements: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    connection = sqlite3.connect(server.settings.database_path)
    try:
        return [
            (statement, row[3])
            for statement, parameters in statements
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    finally:
        connection.close()


def _call(
    server: OrreryServer, call: str, job_ids: tuple[str, str], assignment: Any, report: Any
) -> None:
    what, _, query = call.partition("?")
    if what == "claim":
        server.claim()
    elif what == "report":
        server.report(assignment["lease_id"], **report)
    elif what == "finish":
        server.finish(assignment["lease_id"])
    elif what.startswith("list"):
        client = server.new_client("user") if "user" in what else server.admin
        assert client.get(f"/v1/jobs?{query}").status_code == 200
    else:
        end = "" if what == "show" else f"/{what}"
        for job_id in job_ids:
            assert server.admin.get(f"/v1/jobs/{job_id}{end}?{query}").status_code == 200


@pytest.mark.parametrize(
    "call",
    [
        "metrics",
        "metrics?after=1",
        "events",
        "events?after=1",
        "logs",
        "logs?offset=2",
        "checkpoints",
        "show",
        "list",
        "list?after=job_z",
        "list?status=queued",
        "list?name=x",
        "list of a user",
        "list of a user?name=x",
        "claim",
        "report",
        "finish",
    ],
)
def test_every_query_uses_an_index(server: OrreryServer, call: str) -> None:
    job, assignment = server.start(name="x")
    report: dict[str, Any] = {
        "epochs": [epoch_metrics(0)],
        "checkpoints": [checkpoint(assignment, 0)],
        "log": log_bytes(0, b"abc"),
    }
    server.report(assignment["lease_id"], first_epoch=0, **report)
    waiting = server.submit(name="x")
    seen: list[tuple[str, Any]] = []

    def note(
        _c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if statement.split()[:1] in (["SELECT"], ["UPDATE"], ["DELETE"]):
            seen.append((statement, parameters[0] if many else parameters))

    def note_plain(statement: str) -> None:
        """As run, with its values in it: also what does not go through SQLAlchemy."""
        note(None, None, statement, (), None, False)

    engines = server.service.database._reading, server.service.database._writing
    with engines[1].connect() as writing:
        driver_of(writing).set_trace_callback(note_plain)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        _call(server, call, (job["id"], waiting["id"]), assignment, report)
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
        with engines[1].connect() as writing:
            driver_of(writing).set_trace_callback(None)
    plans = _plans(server, seen)
    assert plans
    for statement, step in plans:
        if call == "list" and step.startswith("SCAN jobs USING INDEX"):
            continue  # newest first, up to the limit
        assert not SCAN.match(step), f"{step}: {statement}"
