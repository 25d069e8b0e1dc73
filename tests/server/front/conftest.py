"""A real nginx before a real server, with a certificate of an authority that nobody knows."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from server.cli.local_service import free_port
from tests.server.conftest import OrreryServer

START_S = 20.0
CONFIG = """
user root; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    location /orrery/ {{ proxy_pass {behind}/; {more} }}
  }}
}}
"""


class Front(NamedTuple):
    """What users see of a server behind nginx.

    Attributes:
        authority: the file with its certificates.
    """

    url: str
    authority: Path
    server: OrreryServer


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (`ca.pem`) and what it signed for localhost (`server.…`)."""
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    named = [word for text in extensions for word in ("-addext", text)]
    _openssl(folder, *new, *named, "-subj", "/CN=Ours", "-keyout", "ca.key", "-out", "ca.pem")
    of_server = ("-addext", "subjectAltName=DNS:localhost", "-CA", "ca.pem", "-CAkey", "ca.key")
    to = ("-keyout", "server.key", "-out", "server.pem")
    more = ("-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(folder, *new, *of_server, *more, "-subj", "/CN=localhost", *to)
    return folder


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))


@contextmanager
def nginx(certificates: Path, port: int, behind: str, more: str = "") -> Iterator[None]:
    """It runs inside."""
    config = certificates / f"nginx-{port}.conf"
    config.write_text(CONFIG.format(folder=certificates, port=port, behind=behind, more=more))
    arguments = ["-c", str(config), "-e", str(certificates / "errors")]
    process = subprocess.Popen(["nginx", *arguments, "-p", str(certificates)])
    try:
        deadline = time.monotonic() + START_S
        while not listens(port):
            assert process.poll() is None, (certificates / "errors").read_text()
            assert time.monotonic() < deadline
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def front(certificates: Path, tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """`front(more, behind)`: a server behind nginx, with more of nginx's directives; or what is
    there in its place."""
    with ExitStack() as stack:

        def begin(more: str = "", behind: str | None = None) -> Front:
            port = free_port("127.0.0.1")
            url = f"https://localhost:{port}/orrery"
            server = OrreryServer(tmp_path / "data", public_url=url, heartbeat_interval_s=0.2)
            stack.enter_context(server)
            stack.enter_context(nginx(certificates, port, behind or server.url, more))
            return Front(url, certificates / "ca.pem", server)

        yield begin
