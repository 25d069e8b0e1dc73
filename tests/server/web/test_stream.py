"""Server-sent events of a job."""

import threading
from typing import Any

import pytest

from server.client import ApiProblem, Client
from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics

Json = dict[str, Any]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams say soon that they wait."""
    monkeypatch.setattr("server.web.routes.stream.KEEP_ALIVE_S", 0.01)


def test_a_stream_tells_what_happens_until_the_job_is_over(server: OrreryServer) -> None:
    job, assignment = server.start(config={"epochs": 1})
    lease = assignment["lease_id"]
    with Client(server.url, server.admin_token) as client:
        told: list[tuple[str, Json]] = []
        for kind, data in client.stream(job["id"]):
            told.append((kind, data))
            done = data.get("progress", {}).get("epochs_done")
            if kind == "progress" and done == 0:
                server.report(lease, epochs=[epoch_metrics(0)])
            elif kind == "progress" and done == 1 and data["status"] == "running":
                server.finish(lease)
    kinds = [kind for kind, _ in told]
    assert kinds[:3] == ["submitted", "started", "progress"]
    assert kinds[-3:] == ["succeeded", "progress", "end"]
    assert told[-1][1] == {"status": "succeeded"}
    assert [data["progress"]["epochs_done"] for kind, data in told if kind == "progress"] == [
        0,
        1,
        1,
    ]


def test_who_comes_again_gets_the_rest(server: OrreryServer) -> None:
    job = server.submit()
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    with Client(server.url, server.admin_token) as client:
        everything = [(kind, data) for kind, data in client.stream(job["id"]) if "id" in data]
        rest = [kind for kind, _ in client.stream(job["id"], everything[0][1]["id"])]
    assert [kind for kind, _ in everything] == ["submitted", "cancelled"]
    assert rest == ["cancelled", "progress", "end"]


def test_a_stream_of_many_events_is_whole_and_says_when_it_waits(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr("server.web.routes.stream.PART", 2)
    job = server.submit()
    for k in range(5):
        server.admin.patch(f"/v1/jobs/{job['id']}", json={"priority": k + 1})
    with server.admin.stream("GET", f"/v1/jobs/{job['id']}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines: list[str] = []
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith(":"):
                break
    assert sum(line == "event: changed" for line in lines) == 5
    assert lines[0].startswith("retry: ")


def test_a_stream_ends_in_time_and_the_client_goes_on(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr("server.web.routes.stream.LONGEST_S", 0.01)
    job = server.submit()
    canceller = threading.Timer(0.2, server.admin.post, (f"/v1/jobs/{job['id']}/cancel",))
    canceller.start()
    with Client(server.url, server.admin_token) as client:
        kinds = [kind for kind, data in client.stream(job["id"]) if "id" in data or kind == "end"]
    canceller.join()
    assert kinds == ["submitted", "cancelled", "end"]


def test_a_stream_is_for_those_who_may_see_the_job(server: OrreryServer) -> None:
    job = server.submit()
    stranger = server.new_client("user")
    assert_problem(stranger.get(f"/v1/jobs/{job['id']}/stream"), 404, "not_found")
    wrong = server.admin.get(f"/v1/jobs/{job['id']}/stream", headers={"Last-Event-ID": "x"})
    assert_problem(wrong, 422, "invalid_request")
    with Client(server.url) as client, pytest.raises(ApiProblem, match="token"):
        next(client.stream(job["id"]))


def test_a_revoked_token_hears_no_more(server: OrreryServer, impatient: None) -> None:
    job = server.submit()
    made = server.admin.post("/v1/tokens", json={"name": "dashboard", "role": "viewer"}).json()
    viewer = server.http(made["secret"])
    with viewer.stream("GET", f"/v1/jobs/{job['id']}/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry: ")
        server.admin.delete(f"/v1/tokens/{made['id']}")
        server.admin.patch(f"/v1/jobs/{job['id']}", json={"name": "secret"})
        assert "secret" not in "".join(lines)


def test_no_text_can_break_a_message(server: OrreryServer) -> None:
    job = server.submit()
    name = "a\u2028b\u0085c"
    server.admin.patch(f"/v1/jobs/{job['id']}", json={"name": name})
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    with Client(server.url, server.admin_token) as client:
        names = [
            data["data"].get("name") for kind, data in client.stream(job["id"]) if "id" in data
        ]
    assert name in names


def test_the_stream_of_a_job_that_is_deleted_ends(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.web.routes.stream.PART", 1)
    job = server.submit()
    with Client(server.url, server.admin_token) as client:
        stream = client.stream(job["id"])
        assert next(stream)[0] == "submitted"
        client.cancel(job["id"])
        client.delete(job["id"])
        assert list(stream)[-1][0] == "end"
