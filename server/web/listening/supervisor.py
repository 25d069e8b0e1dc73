"""Tells systemd how it stands with the service, where that asks (`Type=notify`, sd_notify(3))."""

import os
import socket
from contextlib import suppress


def tell_supervisor(state: str) -> None:
    """Send `READY=1` or `STOPPING=1`; nothing where nobody asked, or listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract one
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.setblocking(False)
        to.sendto(state.encode("ascii"), address)
