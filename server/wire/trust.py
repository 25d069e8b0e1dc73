"""Whom those trust that call a server over TLS, and where it sends them: clients, workers."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

FROM_ENVIRONMENT = "SSL_CERT_FILE", "SSL_CERT_DIR"  # OpenSSL's own
ELSEWHERE = 307
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
ADVICE = (
    "it is not trusted here: name its authority's certificates by --ca FILE, $ORRERY_CA or "
    "$SSL_CERT_FILE, or install them in this system"
)


def trusted(url: str, authorities: Path | None = None) -> ssl.SSLContext:
    """Whom to trust: those of a file; else of the environment; else the system's, and the usual
    ones; nobody where no call is encrypted, for to read certificates takes longer than all else
    that a client begins with.

    Args:
        authorities: certificates in PEM format.

    Raises:
        OSError: the file cannot be read, or holds none.
    """
    if url.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is not None:
        try:
            return ssl.create_default_context(cafile=authorities)
        except OSError as error:  # which does not say of what
            raise OSError(f"no certificates in {authorities}: {error.strerror or error}") from None
    context = ssl.create_default_context()
    if not any(map(os.environ.get, FROM_ENVIRONMENT)):
        import certifi  # noqa: PLC0415 - as httpx does; a container may have none of its own

        context.load_verify_locations(certifi.where())
    return context


def trusted_elsewhere(url: str, authorities: Path | None = None) -> ssl.SSLContext:
    """The same for an address that a server sends its clients to: whom everybody trusts, and those
    of the file.

    Raises:
        OSError: the file cannot be read, or holds none.
    """
    context = trusted(url)
    if authorities is not None and not url.startswith("http://"):
        context.load_verify_locations(authorities)
    return context


def link_of(status: int, headers: Mapping[str, str]) -> str | None:
    """Where an answer sends its client for a file, to a store; None where it does not."""
    link = headers.get("location", "")
    return link if status == ELSEWHERE and link.startswith(("https://", "http://")) else None


def explain(error: Exception) -> str | None:
    """What is wrong with a connection that TLS ended; None: it was something else."""
    words = str(error)
    if UNTRUSTED in words:
        about = words.partition(": ")[2].partition(" (_ssl")[0] or "its certificate"
        return f"{about}; {ADVICE}"
    if "WRONG_VERSION_NUMBER" in words:
        return "it does not speak https; use http://"
    return None
