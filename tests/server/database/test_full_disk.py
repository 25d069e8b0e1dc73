"""A database that cannot grow: nothing is acknowledged that is not there."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from server.database.writer import Database, _Waiting
from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics


def insert(size: int) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(
        text("INSERT INTO things VALUES (zeroblob(:size))"), {"size": size}
    )


@pytest.fixture
def database(tmp_path: Path) -> Any:
    database = Database(tmp_path / "full.db")
    database.open()
    database.submit(lambda c: c.execute(text("CREATE TABLE things (data BLOB)"))).result(10)
    pages = database.submit(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one()).result(
        10
    )
    database.submit(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")).result(10)
    yield database
    database.close()


def rows(database: Database) -> int:
    return database.read_now(lambda c: c.execute(text("SELECT count(*) FROM things")).scalar_one())


def test_every_acknowledged_write_of_a_group_is_there(database: Database) -> None:
    group: list[_Waiting] = [_Waiting(insert(size), Future()) for size in (10, 1_000_000, 10)]
    database._commit_together(group)
    acknowledged = [waiting for waiting in group if waiting.answer.exception(0) is None]
    assert rows(database) == len(acknowledged)
    with pytest.raises(OperationalError):
        group[1].answer.result(0)


def test_the_next_write_works_again(database: Database) -> None:
    with pytest.raises(OperationalError):
        database.submit(insert(1_000_000)).result(10)
    database.submit(insert(10)).result(10)
    assert rows(database) == 1


def test_a_transaction_that_cannot_begin_answers_everyone(database: Database) -> None:
    import sqlite3

    with database._writing.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    foreign = sqlite3.connect(database.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    group = [_Waiting(insert(10), Future()) for _ in range(2)]
    database._commit_together(group)
    foreign.execute("ROLLBACK")
    foreign.close()
    for waiting in group:
        with pytest.raises(OperationalError, match="locked"):
            waiting.answer.result(0)


def test_a_report_that_does_not_fit_is_a_problem_and_writes_nothing(server: OrreryServer) -> None:
    job, assignment = server.start(config={"epochs": 100_000})
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    pages = server.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
    server.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))
    answers = []
    for epoch in range(1, 90_000, 500):  # first it fills what others left free
        more = [epoch_metrics(number) for number in range(epoch, epoch + 500)]
        answers.append(server.report(assignment["lease_id"], epochs=more))
        if answers[-1].status_code != 200:
            break
    assert_problem(answers[-1], 507, "storage_full")
    assert answers[-1].headers["retry-after"] == "10"
    server.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1000000"))
    assert server.report(assignment["lease_id"], epochs=more).status_code == 200
    assert server.job(job["id"])["progress"]["epochs_done"] == epoch + 500
