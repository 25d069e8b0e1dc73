"""What the worker makes of the server's answers."""

import json
from collections.abc import Callable

import httpx
import pytest

from server.wire.states import StopReason
from server.wire.workers import Outcome, Report, WorkerRegistration
from worker.client import LeaseEnded, NotRegistered, ServerRefused, Unreachable, WorkerClient


def client(handler: Callable[[httpx.Request], httpx.Response]) -> WorkerClient:
    return WorkerClient("http://server", "secret", httpx.MockTransport(handler))


def answering(status: int, code: str = "") -> WorkerClient:
    return client(lambda _: httpx.Response(status, json={"code": code, "detail": "because"}))


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_failures_of_the_server_are_tried_again(status: int) -> None:
    with answering(status) as worker, pytest.raises(Unreachable):
        worker.report("lease", Report())


def test_a_broken_connection_is_tried_again() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client(fail) as worker, pytest.raises(Unreachable, match="refused"):
        worker.report("lease", Report())


def test_a_lost_lease_is_told_apart_from_other_conflicts() -> None:
    with answering(409, "lease_lost") as worker, pytest.raises(LeaseEnded):
        worker.report("lease", Report())
    with answering(409, "report_conflict") as worker, pytest.raises(ServerRefused) as caught:
        worker.report("lease", Report())
    assert not isinstance(caught.value, LeaseEnded)


def test_a_server_that_forgot_the_worker_is_noticed() -> None:
    with answering(404, "not_found") as worker, pytest.raises(NotRegistered):
        worker.claim("worker", "claim", 0)


def test_nothing_queued_is_none() -> None:
    with client(lambda _: httpx.Response(204)) as worker:
        assert worker.claim("worker", "claim", 0) is None


def test_the_token_travels_in_the_header_and_only_what_is_said_in_the_body() -> None:
    seen: list[httpx.Request] = []

    def remember(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(
            200, json={"accepted_through": None, "command": None, "status": "succeeded"}
        )

    with client(remember) as worker:
        worker.report("lease_1", Report())
        worker.finish("lease_1", Outcome(status="stopped", stop_reason=StopReason.USER))
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert json.loads(seen[0].content) == {}
    assert seen[1].url.path == "/v1/leases/lease_1/finish"


def test_an_earlier_server_is_told_only_what_it_knows() -> None:
    bodies: list[dict[str, object]] = []

    def earlier(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        unknown = [name for name in bodies[-1] if name in {"proof", "left_s"}]
        if unknown:
            detail = f"/{unknown[0]}: Extra inputs are not permitted"
            return httpx.Response(422, json={"code": "invalid_request", "detail": detail})
        if request.url.path.endswith("/claim"):
            return httpx.Response(204)
        terms = {"id": "w", "heartbeat_interval_s": 1, "lease_ttl_s": 30, "stall_timeout_s": 600}
        return httpx.Response(201, json=terms)

    with client(earlier) as worker:
        registration = WorkerRegistration(name="w", host="here", folder="f", proof="0" * 32)
        assert worker.register(registration).files == "shared"
        for _ in range(2):
            assert worker.claim("worker", "claim", 0, 100) is None
    assert [set(body) & {"proof", "left_s"} for body in bodies] == [
        {"proof"},
        set(),
        {"left_s"},
        set(),
        set(),
    ]


def test_a_server_that_refuses_something_else_is_heard() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(422, json={"detail": "/name: too long"})

    registration = WorkerRegistration(name="w", host="here", proof="0" * 32)
    with client(refuse) as worker, pytest.raises(ServerRefused, match="too long"):
        worker.register(registration)
