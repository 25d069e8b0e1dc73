"""Hands a mail to the server that the settings name."""

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

TIMEOUT_S = 15.0
SUBMISSION, IMPLICIT = 587, 465  # ports: with STARTTLS, and TLS from the first byte


def send_mail(mail: EmailMessage, url: str) -> None:
    """Hand a mail over: encrypted where that is offered, and always where there is a password.

    Raises:
        OSError: of the connection, or what the server answered (smtplib.SMTPException is one).
    """
    parts = urlsplit(url)
    secure = ssl.create_default_context()
    if parts.scheme == "smtps":
        port = parts.port or IMPLICIT
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            parts.hostname or "", port, timeout=TIMEOUT_S, context=secure
        )
    else:
        server = smtplib.SMTP(parts.hostname or "", parts.port or SUBMISSION, timeout=TIMEOUT_S)
    with server:
        server.ehlo()
        if parts.scheme == "smtp" and (server.has_extn("starttls") or parts.password):
            server.starttls(context=secure)
        if parts.password:
            server.login(unquote(parts.username or ""), unquote(parts.password))
        server.send_message(mail)
