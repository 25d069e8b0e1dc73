"""Polls that are answered from what was shown before: never anything that is not so any more."""

from typing import Any

import httpx
import pytest

from server.views import jobs as job_views
from server.web.layers import quick_polls
from tests.server.conftest import OrreryServer, assert_problem, checkpoint, epoch_metrics, layer

Json = dict[str, Any]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that were shown anew."""
    found: list[str] = []
    whole = job_views.job_view

    def counted(connection: Any, row: Any, waiting: Any) -> Any:
        found.append(row.id)
        return whole(connection, row, waiting)

    monkeypatch.setattr(job_views, "job_view", counted)
    return found


def test_a_job_is_shown_anew_after_every_change_and_only_then(
    server: OrreryServer, shown: list[str]
) -> None:
    job, assignment = server.start()
    lease, path = assignment["lease_id"], f"/v1/jobs/{job['id']}"
    changes = [
        lambda: server.report(lease, phase="collect"),
        lambda: server.report(lease, epochs=[epoch_metrics(0)]),
        lambda: server.report(lease, checkpoints=[checkpoint(assignment, 0)]),
        lambda: server.admin.patch(path, json={"name": "another"}),
        lambda: server.admin.patch(path, json={"priority": 3}),
        lambda: server.admin.post(f"{path}/pause"),
        lambda: server.finish(lease, "stopped", "user"),
        lambda: server.admin.post(f"{path}/cancel"),
    ]
    before = server.admin.get(path)
    for change in changes:
        assert change().is_success
        first = server.admin.get(path)
        assert first.json() != before.json()
        count = len(shown)
        again = server.admin.get(path)
        assert len(shown) == count
        assert again.content == first.content
        for name in ("etag", "content-type", "retry-after", "content-length"):
            assert again.headers.get(name) == first.headers.get(name)
        known = server.admin.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        stale = server.admin.get(path, headers={"If-None-Match": before.headers["etag"]})
        assert stale.status_code == 200
        before = first


def test_many_who_ask_at_once_are_answered_by_one_look(
    server: OrreryServer, shown: list[str]
) -> None:
    import asyncio

    job, assignment = server.start()
    server.report(assignment["lease_id"], phase="collect")
    path = f"/v1/jobs/{job['id']}"
    token = server.admin_token

    async def ask() -> set[bytes]:
        limits = httpx.Limits(max_connections=30)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, limits=limits, trust_env=False
        ) as client:
            await asyncio.gather(*(client.get("/healthz") for _ in range(30)))
            shown.clear()
            server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
            return {a.content for a in await asyncio.gather(*(client.get(path) for _ in range(30)))}

    assert len(asyncio.run(ask())) == 1
    assert len(shown) <= 3


def test_heartbeats_change_nothing(server: OrreryServer, shown: list[str]) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], phase="collect")
    first = server.admin.get(f"/v1/jobs/{job['id']}")
    count = len(shown)
    for _ in range(3):
        server.report(assignment["lease_id"], phase="collect")
        assert server.admin.get(f"/v1/jobs/{job['id']}").headers["etag"] == first.headers["etag"]
    assert len(shown) == count


def test_what_is_kept_is_shown_to_those_only_who_may_see_it(server: OrreryServer) -> None:
    job, _ = server.start()
    path = f"/v1/jobs/{job['id']}"
    for _ in range(2):
        assert server.admin.get(path).status_code == 200
    assert server.new_client("viewer").get(path).status_code == 200
    assert_problem(server.new_client("user").get(path), 404, "not_found")
    assert_problem(server.new_client("worker").get(path), 403, "forbidden")
    assert_problem(server.http(None).get(path), 401, "unauthenticated")


def test_a_job_that_is_gone_is_not_shown(server: OrreryServer) -> None:
    job, assignment = server.start()
    server.finish(assignment["lease_id"])
    path = f"/v1/jobs/{job['id']}"
    etag = server.admin.get(path).headers["etag"]
    server.admin.delete(path)
    assert_problem(server.admin.get(path), 404, "not_found")
    assert_problem(server.admin.get(path, headers={"If-None-Match": etag}), 404, "not_found")


def test_a_waiting_jobs_place_is_looked_up_each_time(server: OrreryServer) -> None:
    first, second = server.submit(), server.submit()
    assert server.job(second["id"])["queue_position"] == 1
    server.admin.post(f"/v1/jobs/{first['id']}/cancel")
    assert server.job(second["id"])["queue_position"] == 0


def test_what_is_kept_does_not_grow_without_end(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_polls, "MOST_KEPT", 2)
    polls = layer(server.app, quick_polls.QuickPolls)
    polls._kept.clear()
    for _ in range(4):
        job, _ = server.start()
        server.job(job["id"])
    assert len(polls._kept) == 2
    monkeypatch.setattr(quick_polls, "LARGEST_KEPT", 10)
    polls._kept.clear()
    server.job(job["id"])
    assert not polls._kept
