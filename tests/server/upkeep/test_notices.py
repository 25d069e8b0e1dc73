"""Slack, Matrix and mail: what people are told, and that nothing of it can be misused."""

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from server.upkeep.notices import call_of, mail_of
from server.upkeep.webhook_schedule import Delivery
from server.wire.urls import check_mail_server
from tests.server.conftest import OrreryServer, assert_problem
from tests.server.upkeep.test_webhooks import Receiver, open_server, receiver

__all__ = ["open_server", "receiver"]  # fixtures

SLACK = "slack+https://hooks.slack.com/services/T0/B0/secret"
MATRIX = "matrix+https://matrix.example.org/!room:example.org?access_token=secret"
PAGE = "https://orrery.example.org/"


def delivery(url: str, **changes: Any) -> Delivery:
    job = {"name": "first", "kind": "train", "status": "succeeded", "stop_reason": "completed"}
    message = {
        "type": "job.succeeded",
        "timestamp": "now",
        "data": {"id": "job_1", **job} | changes,
    }
    return Delivery("msg_1", "job_1", url, json.dumps(message).encode(), 0)


def test_slack_is_told_in_one_text() -> None:
    call = call_of(delivery(SLACK), b"", now=0, page=PAGE)
    assert (call.method, call.url) == ("POST", SLACK.removeprefix("slack+"))
    text = "train job first succeeded\nhttps://orrery.example.org/#/job/job_1"
    assert json.loads(call.body) == {"text": text}
    assert "webhook-signature" not in call.headers


def test_a_name_pings_nobody_in_slack() -> None:
    body = call_of(delivery(SLACK, name="<!channel> & <x|y>"), b"", now=0, page=None).body
    text = json.loads(body)["text"]
    assert text.startswith("train job &lt;!channel&gt; &amp; &lt;x|y&gt; succeeded")
    assert text.endswith("orrery show job_1")


def test_a_matrix_room_gets_each_message_once() -> None:
    call = call_of(
        delivery(MATRIX, status="failed", stop_reason="out_of_memory"), b"", now=0, page=PAGE
    )
    assert call.method == "PUT"
    room = "https://matrix.example.org/_matrix/client/v3/rooms/%21room%3Aexample.org"
    assert call.url == f"{room}/send/m.room.message/msg_1"  # a repeat has the same id
    assert call.headers == {"Authorization": "Bearer secret"}
    said = json.loads(call.body)
    assert said["msgtype"] == "m.notice"
    assert said["body"].startswith("train job first failed (out of memory)\n")


def test_a_mail_says_what_and_where() -> None:
    name = "first\u2028Bcc: all"
    mail = mail_of(delivery("mailto:ada@example.org", name=name), sender="o@x.org", page=PAGE)
    assert mail["To"] == "ada@example.org"
    assert mail["Bcc"] is None
    assert "first" in mail["Subject"]
    assert mail.get_content().startswith("train job first")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "mailto:",
            "mailto:ada",
            "mailto:a@b.c?bcc=d@e.f",
            "mailto:a@b.c,d@e.f",
            "mailto:a@b c.d",
        ),
        *("mailto:a@b.c\nBcc: d@e.f", "slack+ftp://x", "slack+https://", "slack+https://u:p@h/x"),
        *("matrix+https://h/!r:s", "matrix+https://h/room?access_token=t", "teams+https://h/x"),
        *("matrix+https://h/!r:s/../x?access_token=t", "matrix+https://h/?access_token=t"),
    ],
)
def test_addresses_that_cannot_be_told_are_refused(server: OrreryServer, address: str) -> None:
    answer = server.admin.post("/v1/jobs", json={"config": {}, "webhook": address})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/webhook"


def test_secrets_in_an_address_are_shown_to_nobody(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.settings, "mail_server", "smtp://127.0.0.1:9")
    for address, shown in (
        (SLACK, "slack+https://hooks.slack.com/…"),
        (MATRIX, "matrix+https://matrix.example.org/…"),
        ("mailto:ada@example.org", "mailto:ada@example.org"),
    ):
        job = server.submit(webhook=address)
        assert job["webhook"] == shown
        text = server.http(server.new_token("viewer", address)).get(f"/v1/jobs/{job['id']}").text
        assert "secret" not in text


def test_slack_and_matrix_are_called(open_server: OrreryServer, receiver: Receiver) -> None:
    base = receiver.url.split("/hook")[0]
    jobs = {
        "slack": open_server.start(webhook=f"slack+{base}/services/x", name="first"),
        "matrix": open_server.start(webhook=f"matrix+{base}/!r:h?access_token=t", name="second"),
    }
    for job, assignment in jobs.values():
        open_server.finish(assignment["lease_id"])
        open_server.until(lambda job=job: "webhook_answered" in open_server.event_types(job["id"]))
    (_, slack), (headers, matrix) = receiver.calls
    assert json.loads(slack)["text"].startswith("train job first succeeded")
    assert json.loads(matrix)["body"].startswith("train job second succeeded")
    assert headers["authorization"] == "Bearer t"


class MailServer(socketserver.ThreadingTCPServer):
    """Takes a mail as SMTP says, and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.mails: list[str] = []
        taken = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                for line in self.rfile:
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(self.rfile.readline, b".\r\n")
                        taken.append(b"".join(lines).decode())
                    if word == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    self.wfile.write(b"250 ok\r\n")

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running
        running.shutdown()


def test_a_mail_is_handed_to_the_server_that_is_named(
    server: OrreryServer, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"smtp://127.0.0.1:{mail_server.server_address[1]}"
    monkeypatch.setattr(server.settings, "mail_server", address)
    monkeypatch.setattr(server.settings, "public_url", PAGE)
    job, assignment = server.start(webhook="mailto:ada@example.org", name="first")
    server.finish(assignment["lease_id"])
    server.until(lambda: "webhook_answered" in server.event_types(job["id"]))
    (mail,) = mail_server.mails
    assert "Subject: Orrery: train job first succeeded" in mail
    assert f"https://orrery.example.org/#/job/{job['id']}" in mail.replace("=\r\n", "")


def test_without_a_mail_server_no_mail_is_promised(server: OrreryServer) -> None:
    body = {"config": {}, "webhook": "mailto:ada@example.org"}
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        problem = assert_problem(server.admin.post(path, json=body), 422)
        assert "ORRERY_MAIL_SERVER" in problem["errors"][0]["detail"]


def test_without_a_mail_server_no_mail_is_sent(
    server: OrreryServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.settings, "mail_server", "smtp://127.0.0.1:9")
    _, assignment = server.start(webhook="mailto:ada@example.org")
    monkeypatch.setattr(server.settings, "mail_server", None)
    server.finish(assignment["lease_id"])
    server.until(lambda: "ORRERY_MAIL_SERVER" in caplog.text)


@pytest.mark.parametrize("url", ["mail.example.org", "https://h", "smtp://", "smtp://h/x"])
def test_a_mail_server_is_named_by_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="use smtp://"):
        check_mail_server(url)
