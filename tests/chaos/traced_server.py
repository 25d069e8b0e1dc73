"""A server under strace: what it does is recorded, or fails as if the disk did."""

import contextlib
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from server.cli.local_service import free_port
from server.client import Client, ServerUnreachable

START_S = 60.0


class NotStarted(Exception):
    """It ended before it answered."""


@contextmanager
def traced(
    folder: Path, options: Sequence[str], script: str, *arguments: str
) -> Generator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    """`serve` on the data of a folder, by a script that may change something first.

    Args:
        options: of strace.

    Yields:
        A client with the admin's token, and the process.

    Raises:
        NotStarted
    """
    port = free_port("127.0.0.1")
    command = ["strace", "-D", "-f", "-q", *options, sys.executable, "-c", script, *arguments]
    command += ["serve", "--data", str(folder / "data"), "--port", str(port)]
    with (folder / "server.log").open("ab") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            with Client(url) as stranger:
                _wait(stranger, server)
            token = (folder / "data" / ".orrery" / "admin.token").read_text(encoding="utf-8")
            headers = {"Authorization": f"Bearer {token.strip()}"}
            with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
                yield client, server
        finally:
            server.terminate()
            server.wait()


def _wait(stranger: Client, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(int(START_S)):
        with contextlib.suppress(ServerUnreachable):
            stranger.wait_until_ready(1.0)
            return
        if server.poll() is not None:
            break
    raise NotStarted
