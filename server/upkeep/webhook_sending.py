"""Tells people that a job is over: calls of addresses that they gave, and mails.

An address is looked up once, checked and then connected to, so that a name cannot point inside
between the look and the call; redirects are not followed.
"""

import base64
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from server.upkeep.mail import send_mail
from server.upkeep.notices import Call, call_of, mail_of
from server.upkeep.public_address import is_public
from server.upkeep.webhook_schedule import Delivery
from server.wire.urls import NoticeAddress

ANSWER_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0  # of a call in all, however slowly the answer drips
KEY_BYTES = 32
SECRET_PREFIX = "whsec_"

logger = logging.getLogger(__name__)
Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(Exception):
    """An address that the server does not call, or write to."""


@dataclass(frozen=True)
class Manner:
    """How people are told.

    Attributes:
        private: whether addresses that are not public may be called.
        page: the address at which people see the dashboard, to link to.
        mail_server, mail_from: that mails are handed to, and are from; None: there are no mails.
    """

    private: bool = False
    page: str | None = None
    mail_server: str | None = None
    mail_from: str = "orrery@localhost"


def send(delivery: Delivery, key: bytes, manner: Manner, resolve: Resolve | None = None) -> bool:
    """Tell somebody; whether it was taken: a call answered 2xx, a mail handed over.

    Args:
        key: that a call is signed with.
    """
    about = {"job_id": delivery.job_id}
    try:
        if NoticeAddress.parse(delivery.url).format == "mail":
            told = _mail(delivery, manner)
        else:
            call = call_of(delivery, key, now=time.time(), page=manner.page)
            told = _make(call, private=manner.private, resolve=resolve or _resolve)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, AddressRefused) as error:
        logger.warning("webhook %s failed: %s", delivery.id, error, extra=about)
        return False
    logger.info("webhook %s %s", delivery.id, "answered" if told else "refused", extra=about)
    return told


def _make(call: Call, *, private: bool, resolve: Resolve) -> bool:
    """Make one call. Only the head of the answer is read."""
    host, target = pin_address(call.url, private=private, resolve=resolve)
    headers = call.headers | {
        "Host": host,
        "Content-Type": "application/json",
        "User-Agent": "orrery",
    }
    extensions = {"sni_hostname": urlsplit(call.url).hostname or ""}
    with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
        request = client.build_request(
            call.method, target, content=call.body, headers=headers, extensions=extensions
        )
        answer = client.send(request, follow_redirects=False, stream=True)
        answer.close()
    return answer.is_success


def _mail(delivery: Delivery, manner: Manner) -> bool:
    if manner.mail_server is None:
        raise AddressRefused("this server sends no mails (ORRERY_MAIL_SERVER names who does)")
    mail = mail_of(delivery, sender=manner.mail_from, page=manner.page)
    send_mail(mail, manner.mail_server)
    return True


def pin_address(url: str, *, private: bool, resolve: Resolve) -> tuple[str, str]:
    """The host of a URL, and the URL with the address of that host in its place.

    Raises:
        AddressRefused: it is no address of the public internet.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    addresses = resolve(host, port)
    if not addresses:
        raise AddressRefused(f"{host} has no address")
    for address in addresses:
        if not private and not is_public(address):
            raise AddressRefused(f"{host} is not public (ORRERY_WEBHOOK_PRIVATE allows it)")
    first = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    query = f"?{parts.query}" if parts.query else ""
    return parts.netloc.rpartition("@")[2], f"{parts.scheme}://{first}:{port}{parts.path}{query}"


def signing_key(path: Path) -> bytes:
    """The key in a file, made at first: `whsec_` and base64, as its users need it.

    Raises:
        ValueError: the file holds no key.
    """
    if not path.exists():
        secret = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(f"{SECRET_PREFIX}{secret}\n", encoding="ascii")
        fresh.replace(path)  # whole, or not there
    text = path.read_text(encoding="ascii").strip().removeprefix(SECRET_PREFIX)
    key = base64.b64decode(text, validate=True)
    if len(key) < KEY_BYTES:
        raise ValueError(f"{path} holds no key for webhooks; delete it, and a new one is made")
    return key


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
