"""What Prometheus sees, read with its own parser."""

import json
import re
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


def requests(method: str, route: str, status: int) -> tuple[str, frozenset[tuple[str, str]]]:
    labels = {"method": method, "route": route, "status": str(status)}
    return "orrery_http_requests_total", frozenset(labels.items())


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
    created = requests("POST", "/v1/jobs", 201)
    before = seen[created]
    server.submit()
    server.admin.get("/v1/nowhere")
    after = scrape(server)
    assert after[created] == before + 1
    assert after[requests("GET", "other", 404)] >= 1


def test_methods_of_other_protocols_make_no_series_of_their_own(server: OrreryServer) -> None:
    for method in ("PROPFIND", "TRACE"):
        server.admin.request(method, "/v1/jobs")
    methods = {dict(labels).get("method") for name, labels in scrape(server)}
    assert "other" in methods
    assert not methods & {"PROPFIND", "TRACE"}


def test_users_and_workers_do_not_see_the_metrics(server: OrreryServer) -> None:
    for client in (server.new_client("user"), server.worker):
        assert_problem(client.get("/metrics"), 403, "forbidden")


def test_routes_are_named_by_their_templates(server: OrreryServer) -> None:
    job = server.submit()
    path = f"/v1/jobs/{job['id']}"
    for end in ("", "/metrics", f"/{'x' * 50}", "/../../etc"):
        server.admin.get(path + end)
    server.http(None).get("/")
    server.http(None).get("/dashboard/main.js")
    routes = {dict(labels).get("route") for name, labels in scrape(server) if "http" in name}
    known = {"/v1/jobs/{id}", "/v1/jobs/{id}/metrics", "dashboard", "other", "/v1/jobs"}
    assert known <= routes
    assert not any(route and job["id"] in route for route in routes)


def test_what_is_to_wait_is_timed_apart(server: OrreryServer) -> None:
    before = scrape(server)
    job = server.submit()
    server.admin.get(f"/v1/jobs/{job['id']}", params={"wait": 0.01, "version": 1})
    server.claim()
    after = scrape(server)

    def more(name: str, method: str, route: str) -> float:
        labels = frozenset({("method", method), ("route", route)})
        key = f"orrery_http_{name}_duration_seconds_count", labels
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert more("wait", "GET", "/v1/jobs/{id}") == 1
    assert more("request", "GET", "/v1/jobs/{id}") == 0
    assert more("wait", "POST", "/v1/workers/{id}/claim") == 1
    assert more("request", "POST", "/v1/jobs") == 1


def test_finished_jobs_are_counted_once(server: OrreryServer) -> None:
    before = scrape(server)  # from here on
    for outcome in ("succeeded", "failed"):
        _, assignment = server.start()
        server.finish(assignment["lease_id"], outcome, "completed" if outcome[0] == "s" else "oom")
    server.admin.post(f"/v1/jobs/{server.submit()['id']}/cancel")
    for _ in range(2):
        seen = scrape(server)
        more = {
            (dict(labels)["status"], dict(labels)["stop_reason"]): value - before.get(key, 0.0)
            for key, value in seen.items()
            for name, labels in [key]
            if name == "orrery_jobs_finished_total"
        }
        more = {reason: count for reason, count in more.items() if count}
        ended = ("succeeded", "completed"), ("failed", "oom"), ("cancelled", "user")
        assert more == dict.fromkeys(ended, 1)


def test_names_keep_to_the_conventions(server: OrreryServer) -> None:
    server.submit()
    text = server.new_client("viewer").get("/metrics").text
    families = list(text_string_to_metric_families(text))
    units = ("_seconds", "_bytes", "_ratio", "_celsius", "_info")
    names = {family.name for family in families}
    assert {"orrery_build_info", "process_resident_memory_bytes"} <= names
    for family in families:
        assert family.documentation, family.name
        assert not family.name.endswith(("_total", "_ms", "_percent", "_mb")), family.name
        if family.type == "histogram":
            assert family.name.endswith("_duration_seconds")
        if family.name.endswith(units):
            continue
        assert family.name.startswith(("orrery_", "process_")), family.name


def test_the_grafana_board_asks_for_what_there_is(server: OrreryServer) -> None:
    board = json.loads((Path(__file__).parents[3] / "docker" / "grafana.json").read_text())
    worker = server.register(gpus=[{"name": "a GPU", "memory_bytes": 1}])
    vitals = {"memory_used_bytes": 1, "utilisation": 0.5, "temperature_c": 40.0}
    server.worker.post(f"/v1/workers/{worker}/vitals", json={"gpus": [vitals]})
    scrape(server)
    server.admin.post(f"/v1/jobs/{server.submit()['id']}/cancel")
    seen = {name for name, _ in scrape(server)}
    labels = {name: set(dict(labels)) for name, labels in scrape(server)}
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    for query in queries:
        names = re.findall(r"\b(?:orrery|process)_\w+", query)
        assert names, query
        assert set(names) <= seen, query
        by = re.search(r"by \(([^)]*)\)", query)
        asked = set(by[1].split(", ")) if by else set()
        assert asked <= labels[names[0]], query
