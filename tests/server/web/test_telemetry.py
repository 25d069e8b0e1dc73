"""What Prometheus sees, read with its own parser."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import OrreryServer, assert_problem

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: OrreryServer) -> Samples:
    answer = server.new_client("viewer").get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_jobs_queue_leases_and_requests_are_counted(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        _assert_counted(server)


def _assert_counted(server: OrreryServer) -> None:
    server.start()
    server.submit()
    server.submit()
    server.clock.advance(3)
    seen = scrape(server)
    assert seen["orrery_jobs", frozenset({("status", "queued")})] == 2
    assert seen["orrery_jobs", frozenset({("status", "running")})] == 1
    assert seen["orrery_jobs", frozenset({("status", "failed")})] == 0
    assert seen["orrery_leases", frozenset()] == 1
    assert seen["orrery_workers", frozenset()] == 1
    assert seen["orrery_queue_oldest_seconds", frozenset()] >= 0
    assert seen["orrery_waiting_writes", frozenset()] == 0
    assert seen["orrery_database_bytes", frozenset({("file", "database")})] > 0
    created = ("orrery_http_requests_total", frozenset({("method", "POST"), ("status", "201")}))
    before = seen[created]
    server.submit()
    server.admin.get("/v1/nowhere")
    after = scrape(server)
    assert after[created] == before + 2  # the job, and the viewer's token
    missing = frozenset({("method", "GET"), ("status", "404")})
    assert after["orrery_http_requests_total", missing] >= 1


def test_methods_of_other_protocols_make_no_series_of_their_own(server: OrreryServer) -> None:
    for method in ("PROPFIND", "TRACE"):
        server.admin.request(method, "/v1/jobs")
    methods = {dict(labels).get("method") for name, labels in scrape(server)}
    assert "other" in methods
    assert not methods & {"PROPFIND", "TRACE"}


def test_users_and_workers_do_not_see_the_metrics(server: OrreryServer) -> None:
    for client in (server.new_client("user"), server.worker):
        assert_problem(client.get("/metrics"), 403, "forbidden")
