"""Calls of users' own servers when a job is over."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from server.database.tables import deliveries, jobs
from server.upkeep.webhook_schedule import MOST_OF_OWNER, RETRY_AFTER_S, Delivery, due, settle
from server.upkeep.webhook_sending import AddressRefused, pin_address, signing_key
from tests.server.conftest import OrreryServer, assert_problem

Json = dict[str, Any]


class Receiver:
    """A user's server: keeps what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.status, self.location = 204, ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def open_server(server: OrreryServer, monkeypatch: pytest.MonkeyPatch) -> OrreryServer:
    """A server that calls addresses of its own host, too."""
    monkeypatch.setattr(server.settings, "webhook_private", True)
    return server


def planned(server: OrreryServer) -> list[Any]:
    return server.read(lambda connection: connection.execute(deliveries.select()).all())


def test_a_call_is_made_once_the_job_is_over_and_is_signed(
    open_server: OrreryServer, receiver: Receiver
) -> None:
    job, assignment = open_server.start(webhook=receiver.url, name="kepler")
    assert planned(open_server) == []
    open_server.finish(assignment["lease_id"])
    open_server.until(lambda: "webhook_answered" in open_server.event_types(job["id"]))
    (headers, body) = receiver.calls[0]
    message = json.loads(body)
    assert message["type"] == "job.succeeded"
    assert message["data"]["id"] == job["id"]
    assert message["data"]["name"] == "kepler"
    assert headers["host"] == receiver.url.split("/")[2]
    secret = open_server.settings.webhook_key_path.read_text().strip()
    assert open_server.settings.webhook_key_path.stat().st_mode & 0o777 == 0o600
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert len(receiver.calls) == 1
    assert planned(open_server) == []


@pytest.mark.parametrize("how", ["failed", "cancelled", "cancelled in the queue"])
def test_every_end_is_told(open_server: OrreryServer, receiver: Receiver, how: str) -> None:
    job = open_server.submit(webhook=receiver.url)
    if how == "cancelled in the queue":
        open_server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    else:
        assignment = open_server.claim()
        assert assignment is not None
        if how == "cancelled":
            open_server.admin.post(f"/v1/jobs/{job['id']}/cancel")
            open_server.finish(assignment["lease_id"], "stopped", "user")
        else:
            open_server.finish(assignment["lease_id"], "failed", "diverged")
    open_server.until(lambda: len(receiver.calls) == 1)
    assert json.loads(receiver.calls[0][1])["type"] == f"job.{how.split()[0]}"


def test_a_call_without_an_answer_is_planned_again_and_given_up_in_the_end(
    open_server: OrreryServer, receiver: Receiver
) -> None:
    receiver.status = 503
    job, assignment = open_server.start(webhook=receiver.url)
    open_server.finish(assignment["lease_id"])
    open_server.until(lambda: [row.tries for row in planned(open_server)] == [1])
    call = Delivery(planned(open_server)[0].id, job["id"], receiver.url, b"{}", 1)
    for tries in range(1, len(RETRY_AFTER_S) + 1):
        again = Delivery(call.id, call.job_id, call.url, call.body, tries)
        open_server.write(
            lambda connection, a=again: settle(connection, a, answered=False, now=1e9)
        )
    assert planned(open_server)[0].next_at is None
    assert "webhook_given_up" in open_server.event_types(job["id"])


def test_a_clock_that_was_set_back_holds_up_no_call(open_server: OrreryServer) -> None:
    job = open_server.submit(webhook="http://127.0.0.1:9/")
    plan = {"id": "m", "job_id": job["id"], "url": "http://127.0.0.1:9/", "type": "x", "at": 0.0}
    planned_at = 2e9
    insert = deliveries.insert().values(**plan, next_at=planned_at + max(RETRY_AFTER_S))
    open_server.write(lambda connection: connection.execute(insert))

    def is_due(now: float) -> bool:
        calls = open_server.read(lambda connection: due(connection, now))
        return "m" in [call.id for call in calls]

    assert not is_due(planned_at + 1)
    assert not is_due(planned_at - 1)  # a clock that is set right by a little
    assert is_due(planned_at - 86400)


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'x' * 70}.example/"])
def test_a_name_that_cannot_be_looked_up_holds_up_no_other_call(
    open_server: OrreryServer, receiver: Receiver, url: str
) -> None:
    for address in (url, receiver.url):
        _, assignment = open_server.start(webhook=address)
        open_server.finish(assignment["lease_id"])
    open_server.until(lambda: len(receiver.calls) == 1)
    open_server.until(lambda: [row.tries for row in planned(open_server)] == [1])


def test_a_receiver_that_never_answers_holds_up_no_other_call(
    open_server: OrreryServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, first = open_server.start(webhook=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        open_server.finish(first["lease_id"])
        open_server.until(lambda: len(open_server.service.chores._calls) == 1)
        _, second = open_server.start(webhook=receiver.url)
        open_server.finish(second["lease_id"])
        open_server.until(lambda: len(receiver.calls) == 1)
    open_server.until(lambda: not open_server.service.chores._calls)


def test_a_redirect_is_not_followed(open_server: OrreryServer, receiver: Receiver) -> None:
    receiver.status, receiver.location = 302, receiver.url
    _, assignment = open_server.start(webhook=receiver.url)
    open_server.finish(assignment["lease_id"])
    open_server.until(lambda: [row.tries for row in planned(open_server)] == [1])
    assert len(receiver.calls) == 1


def test_private_addresses_are_not_called_unless_allowed(
    server: OrreryServer, receiver: Receiver
) -> None:
    _, assignment = server.start(webhook=receiver.url)
    server.finish(assignment["lease_id"])
    server.until(lambda: [row.tries for row in planned(server)] == [1])
    assert receiver.calls == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1", "100.64.0.1",
     "0.0.0.0", "::ffff:127.0.0.1", "fd00::1"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        pin_address("http://hook.example/x", private=False, resolve=lambda *_: [address])
    with pytest.raises(AddressRefused):  # one of several is enough
        pin_address("http://hook.example/x", private=False, resolve=lambda *_: ["8.8.8.8", address])


def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    host, target = pin_address(
        "https://hook.example:8443/x?y=1", private=False, resolve=lambda *_: next(answers)
    )
    assert (host, target) == ("hook.example:8443", "https://93.184.216.34:8443/x?y=1")


@pytest.mark.parametrize(
    "url",
    ["ftp://x.example/", "https://", "hook", "https://user:secret@x.example/",
     "https://x.example/#a",
     "file:///etc/passwd", "https://x.example:0/", "https://x.example:99999/",
     "http://[::1", "\x00"],
)  # fmt: skip
def test_urls_that_cannot_be_called_are_refused_at_once(
    shared_server: OrreryServer, url: str
) -> None:
    answer = shared_server.admin.post("/v1/jobs", json={"config": {}, "webhook": url})
    problem = assert_problem(answer, 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == "/webhook"


def test_a_key_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "webhook.secret"
    assert signing_key(path) == signing_key(path)
    assert len(signing_key(path)) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["webhook.secret"]
    path.write_text("")
    with pytest.raises(ValueError, match="no key"):
        signing_key(path)


@pytest.mark.slow
def test_calls_of_one_owner_do_not_delay_anothers(open_server: OrreryServer) -> None:
    crowd, other = open_server.new_client("user"), open_server.new_client("user")
    for client, number in ((crowd, 30), (other, 1)):
        for _ in range(number):
            job = open_server.submit(client, webhook="http://203.0.113.1/silent")
            client.post(f"/v1/jobs/{job['id']}/cancel")
    calls = open_server.read(lambda connection: due(connection, 1e12))
    owners = open_server.read(
        lambda connection: dict(connection.execute(select(jobs.c.id, jobs.c.owner_id)).all())
    )
    mine = [call for call in calls if owners[call.job_id] == owners[job["id"]]]
    assert len(mine) == 1
    theirs = [call for call in calls if owners[call.job_id] != owners[job["id"]]]
    assert len(theirs) == MOST_OF_OWNER
    under_way = [call.id for call in theirs]
    assert [c.id for c in open_server.read(lambda c: due(c, 1e12, under_way))] == [mine[0].id]
