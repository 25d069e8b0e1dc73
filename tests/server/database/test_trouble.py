"""What a storage that does not work means for those who ask."""

import logging
import sqlite3

import pytest
from sqlalchemy import Connection

from server.database.trouble import trouble_of
from server.log_format import QUIET_S, Repeats, once_a_minute
from tests.server.conftest import OrreryServer, assert_problem


def _failing(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("SQLITE_FULL", 507, "disk is full"),
        ("SQLITE_IOERR_FSYNC", 503, "disk reports errors"),
        ("SQLITE_IOERR_WRITE", 503, "disk reports errors"),
        ("SQLITE_READONLY_DBMOVED", 503, "read-only"),
        ("SQLITE_CANTOPEN", 503, "permissions"),
        ("SQLITE_BUSY", 503, "locked"),
        ("SQLITE_CORRUPT_INDEX", 503, "damaged"),
    ],
)
def test_each_trouble_is_answered_with_its_cause(name: str, status: int, told: str) -> None:
    found = trouble_of(_failing(name))
    assert found is not None
    assert (found.status, told in found.detail) == (status, True)
    assert found.headers["Retry-After"]


def test_a_mistake_in_the_code_is_no_trouble_of_the_storage() -> None:
    assert trouble_of(_failing("SQLITE_ERROR")) is None
    assert trouble_of(KeyError("x")) is None


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/workers", "/v1/tokens"])
def test_a_database_that_cannot_be_written_is_503_everywhere(
    shared_server: OrreryServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"config": {}} if path == "/v1/jobs" else {"name": "x", "host": "y"}
    body = {"name": "x", "role": "user"} if path == "/v1/tokens" else body
    client = shared_server.worker if path == "/v1/workers" else shared_server.admin

    def set_only(connection: Connection, value: str) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {value}")

    shared_server.write(lambda connection: set_only(connection, "ON"))
    try:
        problem = assert_problem(client.post(path, json=body), 503, "storage_unavailable")
    finally:
        shared_server.service.database._writing.raw_connection().driver_connection.execute(  # pyright: ignore[reportOptionalMemberAccess]
            "PRAGMA query_only = OFF"
        )
    assert "read-only" in problem["detail"]
    assert not any(record.exc_info for record in caplog.records)


def test_the_log_says_the_same_once_a_minute() -> None:
    tell = Repeats()
    records = [
        logging.makeLogRecord({"created": at} | once_a_minute(what))
        for at, what in ((0.0, "full"), (1.0, "full"), (2.0, "slow"), (QUIET_S + 0.5, "full"))
    ]
    assert [tell(record) for record in records] == [True, False, True, True]
    assert tell(logging.makeLogRecord({})) is True


def test_malformed_requests_of_strangers_do_not_fill_the_log() -> None:
    tell = Repeats()
    of_uvicorn = {"name": "uvicorn.error", "msg": "Invalid HTTP request received."}
    warnings = [logging.makeLogRecord(of_uvicorn | {"levelno": logging.WARNING}) for _ in range(3)]
    assert [tell(record) for record in warnings] == [True, False, False]
    starts = [logging.makeLogRecord(of_uvicorn | {"levelno": logging.INFO}) for _ in range(2)]
    assert [tell(record) for record in starts] == [True, True]
