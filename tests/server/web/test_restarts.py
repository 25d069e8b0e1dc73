"""Those who wait survive a restart of the server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.client import Client, ServerUnreachable
from server.web.layers.loop_shares import LoopShares
from tests.server.conftest import OrreryServer, assert_problem, layer


def _restarted(tmp_path: Path, waits: Callable[[Client, str], Any]) -> Any:
    """What a wait finds that began before a restart, when the job is cancelled after it."""
    with OrreryServer(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        job_id = server.submit()["id"]
        port, token = server.port, server.admin_token
        client = Client(server.url, token)
        waiting = pool.submit(waits, client, job_id)
        server.until(lambda: server.waiters(job_id) == 1)
        server.__exit__()
        with OrreryServer(tmp_path, listen_on=port) as again:
            again.until(lambda: again.waiters(job_id) == 1)
            again.admin.post(f"/v1/jobs/{job_id}/cancel")
            found = waiting.result(30)
            client.close()
            return found


@pytest.mark.slow
def test_a_wait_goes_on_after_a_restart(tmp_path: Path) -> None:
    found = _restarted(tmp_path, lambda client, job_id: client.wait(job_id))
    assert found["status"] == "cancelled"


@pytest.mark.slow
def test_a_stream_goes_on_after_a_restart_and_misses_nothing(tmp_path: Path) -> None:
    found = _restarted(tmp_path, lambda client, job_id: list(client.stream(job_id)))
    assert [kind for kind, _ in found if kind != "progress"] == ["submitted", "cancelled", "end"]


@pytest.mark.slow
def test_long_polls_and_streams_end_before_the_server_does(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server, ThreadPoolExecutor(2) as pool:
        path = f"/v1/jobs/{server.submit()['id']}"
        headers = {"Authorization": f"Bearer {server.admin_token}"}

        def poll() -> httpx.Response:
            parameters = {"wait": 25, "version": 1}
            return httpx.get(f"{server.url}{path}", params=parameters, headers=headers, timeout=60)

        def follow() -> list[str]:
            with httpx.stream("GET", f"{server.url}{path}/stream", headers=headers) as answer:
                return list(answer.iter_lines())

        polled, followed = pool.submit(poll), pool.submit(follow)
        server.until(lambda: server.waiters(path.rpartition("/")[2]) == 2)
        server.call_soon(server.service.changes.end)
        assert_problem(polled.result(20), 503, "stopping")
        assert polled.result().headers["retry-after"] == "2"
        assert "event: restart" in followed.result(20)


@pytest.mark.slow
def test_a_write_that_rests_is_told_that_the_server_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OrreryServer(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        shares = layer(server.app, LoopShares)
        shares._taken.rest_s = lambda _: 30.0
        headers = {"Authorization": f"Bearer {server.admin_token}"}
        ask = partial(httpx.post, f"{server.url}/v1/jobs", json={}, headers=headers, timeout=60)
        asked = pool.submit(ask)
        server.until(lambda: bool(shares._resting))
        server.__exit__()
        assert_problem(asked.result(20), 503, "stopping")
    assert not [line for line in caplog.messages if "Exception" in line]


def test_whoever_begins_at_an_address_where_nobody_is_fails_at_once() -> None:
    with Client("http://127.0.0.1:9", "t") as client:
        for call in (client.wait, lambda job_id: list(client.stream(job_id)), client.job):
            with pytest.raises(ServerUnreachable):
                call("job_x")
