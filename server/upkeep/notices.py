"""What is said when a job is over, in the format of each kind of address. No I/O.

Formats: https://www.standardwebhooks.com, Slack's incoming webhooks, the client-server API of
Matrix (PUT …/send/m.room.message/{txnId}, where the same transaction is one message).
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from server.upkeep.webhook_schedule import Delivery
from server.wire.urls import NoticeAddress

Json = dict[str, Any]
SLACK_SIGNS = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # that have a meaning there


@dataclass(frozen=True)
class Call:
    """An HTTP request to make."""

    method: str
    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def call_of(delivery: Delivery, key: bytes, *, now: float, page: str | None) -> Call:
    """The request that tells a Slack, a Matrix room, or a server of the user's own.

    Args:
        key: that calls of Standard Webhooks are signed with.
        now: the time that is signed with it.
        page: the address at which people see the dashboard, to link to.
    """
    address = NoticeAddress.parse(delivery.url)
    if address.format == "slack":
        return Call("POST", address.target, _json({"text": _slack_text(delivery, page)}))
    if address.format == "matrix":
        return _to_matrix(delivery, address.target, page)
    signed = sign(delivery.id, delivery.body, key, now=now)
    return Call("POST", address.target, delivery.body, signed)


def _to_matrix(delivery: Delivery, target: str, page: str | None) -> Call:
    parts = urlsplit(target)
    room = quote(unquote(parts.path.strip("/")), safe="")
    place = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{delivery.id}"
    token = parse_qs(parts.query)["access_token"][0]
    body = _json({"msgtype": "m.notice", "body": text_of(delivery, page)})
    bearer = {"Authorization": f"Bearer {token}"}
    return Call("PUT", f"{parts.scheme}://{parts.netloc}{place}", body, bearer)


def mail_of(delivery: Delivery, *, sender: str, page: str | None) -> EmailMessage:
    """The mail that tells somebody. Its id is the call's, so that a repeat is known as one."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = NoticeAddress.parse(delivery.url).target
    mail["Subject"] = f"Orrery: {' '.join(_what(delivery).splitlines())}"
    mail["Message-ID"] = f"<{delivery.id}@orrery>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text_of(delivery, page))
    return mail


def text_of(delivery: Delivery, page: str | None) -> str:
    """Two lines for people: what became of the job, and where it is."""
    return f"{_what(delivery)}\n{_where(delivery, page)}"


def _what(delivery: Delivery) -> str:
    job = _message(delivery)["data"]
    reason = job["stop_reason"] if job["status"] == "failed" else None
    why = f" ({reason.replace('_', ' ')})" if reason else ""
    return f"{job['kind']} job {job['name'] or job['id']} {job['status']}{why}"


def _where(delivery: Delivery, page: str | None) -> str:
    if page is None:
        return f"orrery show {delivery.job_id}"
    return f"{page.rstrip('/')}/#/job/{delivery.job_id}"


def _slack_text(delivery: Delivery, page: str | None) -> str:
    """Nothing that users wrote makes a link or a mention there."""
    safe = "".join(SLACK_SIGNS.get(sign, sign) for sign in _what(delivery))
    return f"{safe}\n{_where(delivery, page)}"


def _message(delivery: Delivery) -> Json:
    return json.loads(delivery.body)


def _json(value: Json) -> bytes:
    return json.dumps(value).encode()


def sign(message_id: str, body: bytes, key: bytes, *, now: float) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time, and HMAC-SHA256 over both and the body."""
    at = str(int(now))
    digest = hmac.digest(key, b".".join((message_id.encode(), at.encode(), body)), hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
