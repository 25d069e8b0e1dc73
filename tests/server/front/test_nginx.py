"""Behind nginx as it comes: its default `Host`, a prefix, gzip for everything, a private CA."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.cli.local_service import free_port
from server.client import ApiProblem, Client, ServerUnreachable
from server.wire.trust import trusted
from tests.server.conftest import TINY
from tests.server.front.conftest import Front
from tests.worker.files.test_uploads import made
from worker.client import WorkerClient
from worker.files.uploads import Uploads

Begin = Callable[..., Front]


def browser_like(front: Front) -> httpx.Client:
    headers = {"Authorization": f"Bearer {front.server.admin_token}"}
    return httpx.Client(headers=headers, verify=trusted(front.url, front.authority), timeout=20)


def orrery(front: Front, *arguments: str, **environment: str) -> Any:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SSL_CERT", "ORRERY_"))}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments, "--url", front.url],
        env={**clean, "ORRERY_TOKEN": front.server.admin_token, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_private_authority_is_named_in_three_ways(front: Begin) -> None:
    place = front()
    authority = str(place.authority)
    assert orrery(place, "jobs", "--ca", authority).returncode == 0
    assert orrery(place, "jobs", ORRERY_CA=authority).returncode == 0
    assert orrery(place, "jobs", SSL_CERT_FILE=authority).returncode == 0


def test_a_certificate_that_is_not_trusted_is_told_as_that(front: Begin) -> None:
    said = orrery(front(), "jobs").stderr
    assert "certificate" in said
    assert "--ca FILE" in said
    assert "nothing listens" not in said


def test_a_file_that_holds_no_certificate_is_named(front: Begin, tmp_path: Path) -> None:
    place, nothing = front(), tmp_path / "nothing.pem"
    for content in (None, "no certificate"):
        if content is not None:
            nothing.write_text(content)
        done = orrery(place, "jobs", "--ca", str(nothing))
        assert done.returncode
        assert "Traceback" not in done.stderr
        assert str(nothing) in done.stderr


def test_a_worker_works_through_it(front: Begin, tmp_path: Path) -> None:
    place = front()
    job = place.server.submit(config={**TINY, "epochs": 2})
    token = tmp_path / "token"
    token.write_text(place.server.worker_token)
    worker = [sys.executable, "-m", "worker", "--server", place.url, "--once", "--data"]
    more = ["--token-file", str(token), "--ca", str(place.authority)]
    subprocess.run([*worker, str(tmp_path / "own"), *more], check=True, timeout=120)
    assert place.server.job(job["id"])["status"] == "succeeded"


@pytest.mark.parametrize("limit", ["1m", "100k"])
def test_files_go_in_pieces_that_it_takes(front: Begin, tmp_path: Path, limit: str) -> None:
    place = front(f"client_max_body_size {limit};")
    server = place.server
    server.submit()
    assignment = server.claim(server.register(folder=None, proof="0" * 32))
    assert assignment is not None
    record = made(tmp_path, assignment, 0, 5 * 2**20)
    with WorkerClient(place.url, server.worker_token, authorities=place.authority) as client:
        files = Uploads(client, assignment["lease_id"], tmp_path, lambda *_: None)
        files.offer(record)
        while not files.arrived():
            files.wait(20)
        files.close()
    assert (server.settings.data / record["data"]["path"]).stat().st_size == 5 * 2**20


def test_places_are_told_as_they_are_seen_from_outside(front: Begin) -> None:
    place = front()
    with browser_like(place) as http:
        made = http.post(f"{place.url}/v1/jobs", json={"config": TINY})
        assert made.headers["location"] == f"/orrery/v1/jobs/{made.json()['id']}"
        document = http.get(f"{place.url}/openapi.json").json()
        assert document["servers"] == [{"url": "/orrery"}]
        docs = http.get(f"{place.url}/docs", follow_redirects=False)
        assert docs.headers["location"] == "/orrery/#/api"


def test_pages_of_this_place_may_change_things_and_others_may_not(front: Begin) -> None:
    place = front()
    own = place.url.removesuffix("/orrery")
    with browser_like(place) as http:
        path = f"{place.url}/v1/jobs"
        for origin, status in ((own, 201), ("https://localhost", 403), ("https://evil.test", 403)):
            answer = http.post(path, json={"config": TINY}, headers={"Origin": origin})
            assert answer.status_code == status, origin


def test_events_come_at_once_through_gzip(front: Begin) -> None:
    place = front()
    with browser_like(place) as http:
        query = f"{place.url}/v1/stream?topics=jobs"
        with http.stream("GET", query, headers={"Accept-Encoding": "gzip"}) as answer:
            lines = answer.iter_lines()
            next(lines)
            place.server.submit()
            assert any(line.startswith("data: ") for line in lines)


def test_what_nginx_itself_says_is_told_as_that(front: Begin) -> None:
    place = front("client_max_body_size 1k;")
    with Client(place.url, place.server.admin_token, authorities=place.authority) as client:
        body = {"epochs": 3, "save_name": "x" * 2000}
        with pytest.raises(ApiProblem, match=r"413 .*client_max_body_size") as said:
            client.submit(body)
    assert "nginx" in str(said.value)


def test_a_server_that_is_away_behind_it_is_told_as_that(front: Begin) -> None:
    place = front(behind=f"http://127.0.0.1:{free_port('127.0.0.1')}")
    with Client(place.url, "x", authorities=place.authority) as client:
        body = {"epochs": 3}
        with pytest.raises(ApiProblem, match=r"502 .* the server behind it does not") as said:
            client.submit(body)
    assert "nginx" in str(said.value)


def test_a_server_that_speaks_no_tls_is_told_as_that(front: Begin) -> None:
    url = front().server.url.replace("http://", "https://")
    with Client(url, "x") as client, pytest.raises(ServerUnreachable, match="use http://"):
        client.health()
