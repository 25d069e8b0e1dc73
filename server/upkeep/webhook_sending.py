"""Makes the calls to users' own servers, signed as Standard Webhooks asks.

An address is looked up once, checked and then connected to, so that a name cannot point inside
between the look and the call; redirects are not followed.
"""

import base64
import hashlib
import hmac
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from server.upkeep.public_address import is_public
from server.upkeep.webhook_schedule import Delivery

ANSWER_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0  # of a call in all, however slowly the answer drips
KEY_BYTES = 32
SECRET_PREFIX = "whsec_"

logger = logging.getLogger(__name__)
Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(Exception):
    """An address that the server does not call."""


def send(delivery: Delivery, key: bytes, *, private: bool, resolve: Resolve | None = None) -> bool:
    """Make one call; whether it was answered 2xx. Only the head of the answer is read.

    Args:
        key: that the call is signed with.
        private: whether addresses that are not public may be called.
    """
    try:
        host, target = pin_address(delivery.url, private=private, resolve=resolve or _resolve)
        headers = sign(delivery.id, delivery.body, key, now=time.time()) | {
            "Host": host,
            "Content-Type": "application/json",
            "User-Agent": "orrery",
        }
        extensions = {"sni_hostname": urlsplit(delivery.url).hostname or ""}
        with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
            request = client.build_request(
                "POST", target, content=delivery.body, headers=headers, extensions=extensions
            )
            answer = client.send(request, follow_redirects=False, stream=True)
            answer.close()
        about = {"job_id": delivery.job_id}
        logger.info("webhook %s answered %d", delivery.id, answer.status_code, extra=about)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, AddressRefused) as error:
        about = {"job_id": delivery.job_id}
        logger.warning("webhook %s failed: %s", delivery.id, error, extra=about)
        return False
    return answer.is_success


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


def sign(message_id: str, body: bytes, key: bytes, *, now: float) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time, and HMAC-SHA256 over both and the body."""
    at = str(int(now))
    digest = hmac.digest(key, b".".join((message_id.encode(), at.encode(), body)), hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


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
