"""`orrery logs`: all of it, its end, what matches, and what is still to come."""

import pytest

from server.cli.log_lines import lines_of
from server.client import Client
from tests.server.conftest import Orrery, OrreryServer, log_bytes

TEXT = b"one\ntwo\nthree 3\nfour"


def logged(server: OrreryServer) -> tuple[str, str]:
    job, assignment = server.start(name="talks")
    server.report(assignment["lease_id"], log=log_bytes(0, TEXT))
    return job["id"], assignment["lease_id"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], TEXT),
        (["--tail", "2"], b"three 3\nfour"),
        (["--tail", "0"], b""),
        (["--grep", "^t"], b"two\nthree 3\n"),
        (["--grep", r"\d", "--tail", "9"], b"three 3\n"),
    ],
)
def test_a_log_is_shown_in_part(
    options: list[str], shown: bytes, server: OrreryServer, orrery: Orrery
) -> None:
    logged(server)
    done = orrery("logs", "talks", *options)
    assert (done.code, done.out) == (0, shown.decode())


def test_what_is_no_regular_expression_is_told(server: OrreryServer, orrery: Orrery) -> None:
    logged(server)
    done = orrery("logs", "talks", "--grep", "(")
    assert done.code == 2
    assert "--grep '('" in done.err


def test_a_log_is_followed_until_its_job_is_over(server: OrreryServer) -> None:
    job, lease = logged(server)
    pieces = [b" more\n", b"five\n"]

    def write_more(_: float) -> None:
        if pieces:
            piece = pieces.pop(0)
            server.report(lease, log=log_bytes(len(TEXT) + (6 if piece == b"five\n" else 0), piece))
        else:
            server.finish(lease)

    with Client(server.url, server.admin_token) as client:
        lines = list(lines_of(client, job, follow=True, sleep=write_more))
    assert lines == [b"one\n", b"two\n", b"three 3\n", b"four more\n", b"five\n"]


def test_a_log_of_a_job_that_is_over_is_followed_to_its_end(
    server: OrreryServer, orrery: Orrery
) -> None:
    _, lease = logged(server)
    server.finish(lease)
    assert orrery("logs", "talks", "-f", "--tail", "1").out == "four"
    assert orrery("logs", "talks", "--follow").out == TEXT.decode()
