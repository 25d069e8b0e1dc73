"""Addresses that users give: where somebody is told that a job is over.

`https://…` is called as Standard Webhooks says, `slack+https://…` as Slack's incoming webhooks want
it (Mattermost and Discord take the same), `matrix+https://HOST/ROOM?access_token=TOKEN` puts a
message into a room of Matrix, `mailto:NAME@HOST` is a mail.
"""

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

MAIL = "mailto:"
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
ROOM = re.compile(r"/(?:!|%21)[A-Za-z0-9._~%:=+-]{1,255}")

Format = Literal["standard", "slack", "matrix", "mail"]


class NoticeAddress(NamedTuple):
    """Whom to tell, and how: of a mail its address, else a URL."""

    format: Format
    target: str

    @classmethod
    def parse(cls, text: str) -> "NoticeAddress":
        """From how users write it; what it says is not looked at."""
        if text.startswith(MAIL):
            return cls("mail", text.removeprefix(MAIL))
        for name in ("slack", "matrix"):
            if text.startswith(f"{name}+http"):
                return cls(name, text.removeprefix(f"{name}+"))
        return cls("standard", text)

    def without_secrets(self) -> str:
        """What others may know of it: whoever has the path of a Slack hook may write there."""
        if self.format in {"standard", "mail"}:
            return f"{MAIL if self.format == 'mail' else ''}{self.target}"
        parts = urlsplit(self.target)
        return f"{self.format}+{parts.scheme}://{parts.hostname}/…"


def check_notice_address(text: str) -> str:
    """An address of one of the formats, with all that it needs.

    Raises:
        ValueError
    """
    address = NoticeAddress.parse(text)
    if address.format == "mail":
        if not ADDRESS.fullmatch(address.target):
            raise ValueError("use mailto:NAME@HOST, with nothing after it")
        return text
    check_url(address.target)
    parts = urlsplit(address.target)
    if address.format == "matrix" and not (
        ROOM.fullmatch(parts.path) and parse_qs(parts.query).get("access_token")
    ):
        raise ValueError("use matrix+https://HOST/!ROOM:SERVER?access_token=TOKEN")
    return text


def check_url(url: str) -> str:
    """An http or https URL with a host and without a password.

    Raises:
        ValueError
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("use a URL like https://example.org/hook")
    if parts.username is not None or parts.fragment:
        raise ValueError("leave user name, password and fragment out of the URL")
    if not url.isascii():
        raise ValueError("use ASCII characters only; xn-- for other host names")
    return url


def check_mail_server(url: str) -> str:
    """`smtp://[USER:PASSWORD@]HOST[:PORT]`, which begins with TLS where it is offered, and must
    where there is a password; or `smtps://…`, TLS from the first byte.

    Raises:
        ValueError
    """
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path.strip("/"):
        raise ValueError("use smtp://USER:PASSWORD@HOST:PORT, or smtps://…")
    return url
