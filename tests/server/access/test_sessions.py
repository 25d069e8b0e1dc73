"""Sessions of browsers: what a cookie opens, and what ends it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.access import sessions
from tests.server.conftest import OrreryServer

CLIENTS: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def browser(server: OrreryServer, **options: Any) -> httpx.Client:
    client = httpx.Client(base_url=server.url, headers={"Origin": server.url}, **options)
    CLIENTS.append(client)
    return client


def signed_in(server: OrreryServer, secret: str) -> httpx.Client:
    client = browser(server)
    answer = client.post("/v1/session", json={"token": secret})
    assert answer.status_code == 201, answer.text
    return client


def test_a_cookie_stands_for_a_token(server: OrreryServer) -> None:
    client = signed_in(server, server.new_token("user", "ada"))
    assert client.get("/v1/session").json() | {"token_id": ""} == {
        "object": "session",
        "token_id": "",
        "name": "ada",
        "role": "user",
        "needs_token": True,
        "has_cookie": True,
    }
    server.submit(client, name="by cookie")
    assert client.get("/v1/tokens").status_code == 403


def test_a_cookie_is_kept_from_scripts_and_other_sites(server: OrreryServer) -> None:
    secret = server.new_token("user")
    answer = httpx.post(f"{server.url}/v1/session", json={"token": secret})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"orrery_{server.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert secret not in cookie


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_nothing_changes_at_the_word_of_another_page(
    server: OrreryServer, origin: str | None
) -> None:
    client = signed_in(server, server.admin_token)
    job = server.submit()
    del client.headers["Origin"]
    headers = {} if origin is None else {"Origin": origin}
    answer = client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers)
    assert answer.status_code == 403
    assert server.job(job["id"])["status"] == "queued"


def test_logging_out_ends_the_session_whoever_keeps_the_cookie(server: OrreryServer) -> None:
    client = signed_in(server, server.admin_token)
    kept = dict(client.cookies)
    assert client.delete("/v1/session").status_code == 204
    assert client.get("/v1/jobs").status_code == 401
    thief = browser(server, cookies=kept)
    assert thief.get("/v1/jobs").status_code == 401
    assert server.admin.get("/v1/jobs").status_code == 200  # the token is as good as before


def test_a_revoked_token_ends_its_sessions(server: OrreryServer) -> None:
    made = server.admin.post("/v1/tokens", json={"name": "t", "role": "user"}).json()
    client = signed_in(server, made["secret"])
    server.admin.delete(f"/v1/tokens/{made['id']}")
    assert client.get("/v1/jobs").status_code == 401


def test_a_session_ends_by_itself(server: OrreryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(server, server.admin_token)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + sessions.LIFE_S + 1)
    assert client.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize("cookie", ["", "x", "\xff", "a" * 9000, "=;=;", '"'])
def test_a_cookie_of_nothing_opens_nothing(server: OrreryServer, cookie: str) -> None:
    header = f"orrery_{server.port}={cookie}".encode("latin-1")
    answer = httpx.get(f"{server.url}/v1/jobs", headers={"Cookie": header})
    assert answer.status_code == 401


@pytest.mark.parametrize("token", ["", "orrery_x", "é", "a" * 500])
def test_a_wrong_token_begins_no_session(server: OrreryServer, token: str) -> None:
    assert httpx.post(f"{server.url}/v1/session", json={"token": token}).status_code == 401


def test_a_worker_has_no_session(server: OrreryServer) -> None:
    body = {"token": server.worker_token}
    assert httpx.post(f"{server.url}/v1/session", json=body).status_code == 401


def test_a_session_outlives_a_restart(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        client, port = signed_in(server, server.admin_token), server.port
    with OrreryServer(tmp_path, listen_on=port):
        assert client.get("/v1/jobs").status_code == 200


def test_without_tokens_there_is_nothing_to_sign_in_to(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, auth=False) as server:
        found = httpx.get(f"{server.url}/v1/session").json()
        assert (found["needs_token"], found["role"]) == (False, "admin")
