"""The Python client against the real server."""

import hashlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from server.client import ApiProblem, Client, ClientError, ServerUnreachable
from tests.server.conftest import TINY, OrreryServer, checkpoint, epoch_metrics, log_bytes


@pytest.fixture
def client(server: OrreryServer) -> Iterator[Client]:
    with Client(server.url, server.admin_token) as connected:
        yield connected


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_job_is_submitted_found_and_cancelled(client: Client) -> None:
    job = client.submit(TINY, name="mine", metadata={"a": "b"})
    assert (job["status"], job["name"], job["metadata"]) == ("queued", "mine", {"a": "b"})
    assert client.job(job["id"]) == job
    assert [found["id"] for found in client.jobs(status=["queued"], limit=5)["data"]] == [job["id"]]
    assert client.cancel(job["id"])["status"] == "cancelled"
    assert client.wait(job["id"])["status"] == "cancelled"
    assert [event["type"] for event in client.events(job["id"])["data"]] == [
        "submitted",
        "cancelled",
    ]


def test_a_repeated_submission_with_one_key_is_one_job(client: Client) -> None:
    ids = {client.submit(TINY, idempotency_key="k")["id"] for _ in range(2)}
    assert len(ids) == 1


def test_the_service_describes_itself(client: Client) -> None:
    assert client.health() == {"status": "ok"}
    assert client.version()["name"] == "orrery"
    assert "epochs" in client.config_schema()["properties"]
    assert client.validate(TINY)["config"]["epochs"] == TINY["epochs"]
    assert client.workers()["data"] == []


def test_results_are_read_in_pages_and_saved(
    server: OrreryServer, client: Client, tmp_path: Path
) -> None:
    job, assignment = server.start()
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    saved = checkpoint(assignment, 1, bytes=len(content), sha256=digest)
    file = server.settings.data / saved["path"]
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    epochs = [epoch_metrics(n) for n in range(4)]
    log = log_bytes(0, b"hello")
    server.report(assignment["lease_id"], epochs=epochs, checkpoints=[saved], log=log)
    assert list(client.all_metrics(job["id"], limit=1)) == epochs
    assert client.logs(job["id"]) == b"hello"
    assert client.logs(job["id"], 3) == b"lo"
    [listed] = client.checkpoints(job["id"])["data"]
    assert client.checkpoint(listed["id"]) == listed
    target = client.download(listed["id"], tmp_path / "model.pt")
    assert target.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_download_that_fails_leaves_nothing(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiProblem) as refused:
        client.download("ckpt_" + "0" * 26, tmp_path / "model.pt")
    assert refused.value.code == "not_found"
    assert list(tmp_path.iterdir()) == []


def test_waiting_ends_when_the_job_does(server: OrreryServer, client: Client) -> None:
    job, assignment = server.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait, job["id"])
        server.until(lambda: server.waiters(job["id"]) == 1)
        server.finish(assignment["lease_id"])
        assert waiting.result(10)["status"] == "succeeded"


def test_tokens_are_made_listed_and_revoked(server: OrreryServer, client: Client) -> None:
    made = client.create_token("t", "viewer", expires_in_s=1000)
    assert made["id"] in [token["id"] for token in client.tokens()["data"]]
    with Client(server.url, made["secret"]) as viewer:
        assert viewer.jobs()["data"] == []
        with pytest.raises(ApiProblem) as refused:
            viewer.submit(TINY)
        assert (refused.value.status, refused.value.code) == (403, "forbidden")
        assert client.revoke_token(made["id"])["revoked_at"]
        with pytest.raises(ApiProblem) as closed:
            viewer.jobs()
        assert closed.value.code == "unauthenticated"


def test_a_refusal_names_every_wrong_field(client: Client) -> None:
    with pytest.raises(ApiProblem) as refused:
        client.submit({"lr": -1, "epohcs": 3})
    assert refused.value.code == "invalid_request"
    assert "/config/lr" in str(refused.value)
    assert "'epochs'" in str(refused.value)


def test_a_server_that_is_not_there_is_unreachable(nowhere: str, tmp_path: Path) -> None:
    with Client(nowhere, "token") as client:
        for call in (client.health, client.jobs, lambda: client.wait_until_ready(0)):
            with pytest.raises(ServerUnreachable, match=nowhere) as gone:
                call()
            assert isinstance(gone.value, ClientError)
        with pytest.raises(ServerUnreachable):
            client.download("ckpt_" + "0" * 26, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_there_is_ready(client: Client) -> None:
    client.wait_until_ready(1)


class TestTooOften:
    def client(self, *answers: httpx.Response) -> tuple[Client, list[httpx.Request]]:
        asked: list[httpx.Request] = []
        left = list(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return left.pop(0)

        return Client("http://x", transport=httpx.MockTransport(handle)), asked

    def test_a_call_that_comes_too_often_is_made_again(self) -> None:
        busy = httpx.Response(429, headers={"Retry-After": "0"}, json={})
        client, asked = self.client(busy, busy, httpx.Response(200, json={"id": "job_1"}))
        assert client.submit({})["id"] == "job_1"
        assert len(asked) == 3

    @pytest.mark.parametrize("seconds", ["60", "", "soon"])
    def test_a_limit_that_takes_long_is_told(self, seconds: str) -> None:
        full = httpx.Response(429, headers={"Retry-After": seconds}, json={"detail": "full"})
        client, asked = self.client(full)
        with pytest.raises(ApiProblem, match="full"):
            client.submit({})
        assert len(asked) == 1

    def test_it_does_not_go_on_for_ever(self) -> None:
        busy = [httpx.Response(429, headers={"Retry-After": "0"}, json={}) for _ in range(9)]
        client, asked = self.client(*busy)
        with pytest.raises(ApiProblem):
            client.submit({})
        assert len(asked) == 4
