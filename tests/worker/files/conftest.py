"""A real server, and a worker's way to it, which each file of tests has its own kind of."""

from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import OrreryServer
from worker.client import WorkerClient


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: OrreryServer, line: httpx.BaseTransport) -> Iterator[WorkerClient]:
    with WorkerClient(server.url, server.worker_token, line) as made:
        yield made
