"""Pages of other sites: which may call the API, and what browsers are told of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.conftest import OrreryServer, assert_problem

PLOTS, STRANGE = {"Origin": "https://plots.example.org"}, {"Origin": "https://strange.example.org"}
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
}


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path, cors_origins=["https://plots.example.org"]) as server:
        yield server


def test_a_page_that_is_named_may_ask_and_submit(open_server: OrreryServer) -> None:
    with httpx.Client(base_url=open_server.url) as page:
        before = page.options("/v1/jobs", headers=PLOTS | ASKS)  # it has no token
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == PLOTS["Origin"]
        assert "authorization" in before.headers["access-control-allow-headers"].lower()
        refused = page.get("/v1/jobs", headers=PLOTS)
        assert_problem(refused, 401)  # which the page may read
        assert refused.headers["access-control-allow-origin"] == PLOTS["Origin"]
    answer = open_server.admin.post("/v1/jobs", json={"config": {}}, headers=PLOTS)
    assert answer.status_code == 201
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers  # cookies stay at home


def test_a_cookie_does_not_count_there(open_server: OrreryServer) -> None:
    """Of a page in the same domain a browser sends the dashboard's cookie along."""
    with httpx.Client(base_url=open_server.url) as browser:
        browser.post("/v1/session", json={"token": open_server.admin_token}).raise_for_status()
        own = {"Origin": open_server.url}
        assert browser.post("/v1/jobs", json={"config": {}}, headers=own).status_code == 201
        foreign = browser.post("/v1/jobs", json={"config": {}}, headers=PLOTS)
        assert_problem(foreign, 401)


def test_others_are_refused(open_server: OrreryServer) -> None:
    asked = open_server.admin.options("/v1/jobs", headers=STRANGE | ASKS)
    assert not asked.is_success
    answer = open_server.admin.get("/v1/jobs", headers=STRANGE)
    assert_problem(answer, 403)
    assert "access-control-allow-origin" not in answer.headers


def test_nobody_is_named_at_first(server: OrreryServer) -> None:
    assert_problem(server.admin.get("/v1/jobs", headers=PLOTS), 403)
    assert not server.admin.options("/v1/jobs", headers=PLOTS | ASKS).is_success


@pytest.mark.parametrize("origin", ["*", "plots.example.org", "https://plots.example.org/"])
def test_what_is_no_origin_is_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        OrreryServer(tmp_path, cors_origins=[origin])
