"""One stream of all that changes, for pages."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from server.queue.changes import REMEMBERED, Changes
from tests.server.conftest import OrreryServer, epoch_metrics

Message = tuple[str, dict[str, Any]]


@contextmanager
def stream(client: httpx.Client, *topics: str) -> Iterator[Iterator[Message]]:
    """Messages of a stream, as they come."""
    with client.stream("GET", "/v1/stream", params={"topics": topics}, timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines).startswith("retry:")  # from here on nothing is missed

        def messages() -> Iterator[Message]:
            kind = ""
            for line in lines:
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    yield kind, json.loads(line[6:])

        yield messages()


def test_changed_jobs_are_told_as_lists_show_them(server: OrreryServer) -> None:
    with stream(server.admin, "jobs") as messages:
        job = server.submit(name="new")
        kind, told = next(messages)
        assert (kind, told["all"]) == ("jobs", False)
        assert [(each["id"], each["status"]) for each in told["data"]] == [(job["id"], "queued")]
        assert told["data"][0]["owner"] == "admin (file)"
        assignment = server.claim()
        assert assignment is not None
        server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
        while told["data"][0]["progress"]["epochs_done"] != 1:
            _, told = next(messages)


def test_deleted_jobs_are_told_as_gone(server: OrreryServer) -> None:
    job = server.submit()
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    with stream(server.admin, job["id"]) as messages:
        server.admin.delete(f"/v1/jobs/{job['id']}")
        told = next(messages)[1]
        assert (told["data"], told["gone"]) == ([], [job["id"]])


def test_only_topics_that_were_asked_for_are_told(server: OrreryServer) -> None:
    job, other = server.submit(), server.submit()
    with stream(server.admin, job["id"]) as messages:
        server.admin.patch(f"/v1/jobs/{other['id']}", json={"name": "other"})
        server.admin.patch(f"/v1/jobs/{job['id']}", json={"name": "mine"})
        kind, told = next(messages)
        assert kind == "jobs"
        assert [each["name"] for each in told["data"]] == ["mine"]


def test_users_hear_of_their_own_jobs_only(server: OrreryServer) -> None:
    user = server.new_client("user")
    with stream(user, "jobs") as messages:
        server.submit(name="foreign")
        own = server.submit(user, name="own")
        ids = [each["id"] for each in next(messages)[1]["data"]]
        while not ids:
            ids = [each["id"] for each in next(messages)[1]["data"]]
        assert ids == [own["id"]]


def test_a_stream_ends_with_its_token(server: OrreryServer) -> None:
    made = server.admin.post("/v1/tokens", json={"name": "t", "role": "user"}).json()
    with stream(server.http(made["secret"]), "jobs") as messages:
        server.admin.delete(f"/v1/tokens/{made['id']}")
        assert [kind for kind, _ in messages][-1] == "refused"


@pytest.mark.parametrize("topics", [[], ["everything"], ["job_"], ["jobs"] * 51])
def test_a_stream_of_nothing_is_refused(server: OrreryServer, topics: list[str]) -> None:
    assert server.admin.get("/v1/stream", params={"topics": topics}).status_code == 422


def test_changes_know_what_changed_since() -> None:
    changes = Changes()
    for topic in ("a", "b", "a"):
        changes.notify(topic)
    assert changes.since(0) == {"a", "b"}
    assert changes.since(2) == {"a"}
    assert changes.since(3) == set()
    for n in range(REMEMBERED):
        changes.notify(f"t{n}")
    assert changes.since(1) is None
    assert changes.since(changes.count - 1) == {f"t{REMEMBERED - 1}"}
