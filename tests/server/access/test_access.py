"""Who may come in, and how far."""

import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.access import secret_files, tokens
from server.service import prepare
from server.settings import ServerSettings
from server.web.layers import access
from tests.server.conftest import (
    TINY,
    OrreryServer,
    assert_problem,
    checkpoint,
    epoch_metrics,
    layer,
)

PUBLIC = {("get", "/healthz"), ("get", "/readyz"), ("post", "/v1/session")}
PEOPLE = {"admin", "user", "viewer"}
MAY_CALL: dict[tuple[str, str], set[str]] = {
    ("get", "/metrics"): {"admin", "viewer"},
    ("get", "/version"): {"admin", "user", "worker", "viewer"},
    ("get", "/v1/schemas/config"): PEOPLE,
    ("get", "/v1/schemas/columns"): PEOPLE,
    ("get", "/v1/presets"): PEOPLE,
    ("get", "/v1/stream"): PEOPLE,
    ("get", "/v1/session"): {"admin", "user", "worker", "viewer"},
    ("delete", "/v1/session"): {"admin", "user", "worker", "viewer"},
    ("get", "/v1/jobs"): PEOPLE,
    ("get", "/v1/jobs/groups"): PEOPLE,
    ("post", "/v1/jobs"): {"admin", "user"},
    ("post", "/v1/jobs/validate"): {"admin", "user"},
    ("post", "/v1/jobs/actions"): {"admin", "user"},
    ("get", "/v1/jobs/{job_id}"): PEOPLE,
    ("post", "/v1/jobs/{job_id}/cancel"): {"admin", "user"},
    ("patch", "/v1/jobs/{job_id}"): {"admin", "user"},
    ("delete", "/v1/jobs/{job_id}"): {"admin", "user"},
    ("post", "/v1/jobs/{job_id}/pause"): {"admin", "user"},
    ("post", "/v1/jobs/{job_id}/resume"): {"admin", "user"},
    ("post", "/v1/jobs/{job_id}/retry"): {"admin", "user"},
    ("get", "/v1/jobs/{job_id}/attempts"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/stream"): PEOPLE,
    ("get", "/v1/queue"): PEOPLE,
    ("get", "/v1/queue/demand"): {"admin", "worker"},
    ("get", "/v1/compare"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/metrics"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/events"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/logs"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/checkpoints"): PEOPLE,
    ("post", "/v1/checkpoints"): {"admin", "user"},
    ("get", "/v1/checkpoints/{checkpoint_id}"): PEOPLE,
    ("get", "/v1/checkpoints/{checkpoint_id}/content"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/result"): PEOPLE,
    ("get", "/v1/jobs/{job_id}/artifacts"): PEOPLE,
    ("get", "/v1/artifacts/{artifact_id}"): PEOPLE,
    ("get", "/v1/artifacts/{artifact_id}/content"): PEOPLE,
    ("get", "/v1/files"): PEOPLE,
    ("post", "/v1/files"): {"admin", "user"},
    ("get", "/v1/files/{file_id}"): PEOPLE,
    ("get", "/v1/files/{file_id}/content"): PEOPLE,
    ("delete", "/v1/files/{file_id}"): {"admin", "user"},
    ("get", "/v1/sweeps"): PEOPLE,
    ("post", "/v1/sweeps"): {"admin", "user"},
    ("get", "/v1/sweeps/{sweep_id}"): PEOPLE,
    ("delete", "/v1/sweeps/{sweep_id}"): {"admin", "user"},
    ("get", "/v1/sweeps/{sweep_id}/trials"): PEOPLE,
    ("get", "/v1/sweeps/{sweep_id}/importance"): PEOPLE,
    ("post", "/v1/sweeps/{sweep_id}/cancel"): {"admin", "user"},
    ("get", "/v1/workers"): PEOPLE,
    ("post", "/v1/workers"): {"worker"},
    ("post", "/v1/workers/{worker_id}/drain"): {"admin"},
    ("post", "/v1/workers/{worker_id}/leave"): {"worker"},
    ("post", "/v1/workers/{worker_id}/vitals"): {"worker"},
    ("post", "/v1/workers/{worker_id}/claim"): {"worker"},
    ("post", "/v1/leases/{lease_id}/report"): {"worker"},
    ("post", "/v1/leases/{lease_id}/finish"): {"worker"},
    ("put", "/v1/leases/{lease_id}/files"): {"worker"},
    ("get", "/v1/leases/{lease_id}/files"): {"worker"},
    ("get", "/v1/audit"): {"admin"},
    ("get", "/v1/tokens"): {"admin"},
    ("post", "/v1/tokens"): {"admin"},
    ("delete", "/v1/tokens/{token_id}"): {"admin"},
}
ROLES = ("admin", "user", "worker", "viewer")


def _walk(server: OrreryServer) -> Iterator[tuple[str, str, str]]:
    """Method, path template, and a path of it, of every route."""
    document = server.admin.get("/openapi.json").json()
    for template, operations in document["paths"].items():
        path = template
        for kind in ("job", "checkpoint", "artifact", "file", "worker", "lease", "token", "sweep"):
            prefix = {"checkpoint": "ckpt", "artifact": "file", "file": "ic"}.get(kind, kind)
            path = path.replace(f"{{{kind}_id}}", f"{prefix}_{'0' * 26}")
        assert "{" not in path, f"give {template} an id here"
        for method in operations:
            yield method, template, path


@pytest.mark.slow
def test_this_file_says_who_may_call_each_route(shared_server: OrreryServer) -> None:
    routes = {(method, template) for method, template, _ in _walk(shared_server)}
    assert routes == set(MAY_CALL) | PUBLIC


@pytest.mark.slow
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer orrery_wrong",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer \xff\xfe",
        f"Bearer {'x' * 5000}",
    ],
)
def test_no_route_answers_without_a_valid_token(
    shared_server: OrreryServer, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    nobody = shared_server.http(None)
    methods = ["get", "post", "put", "patch", "delete", "options"]
    for declared, template, path in _walk(shared_server):
        for method in {declared, *methods}:
            if (method, template) in PUBLIC:
                continue
            answer = nobody.request(method, path, headers=headers)
            problem = assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "xxxx" not in problem["detail"]


def test_a_token_of_another_scheme_or_place_opens_nothing(shared_server: OrreryServer) -> None:
    secret, nobody = shared_server.admin_token, shared_server.http(None)
    for headers in (
        {"Authorization": secret},
        {"Authorization": f"Basic {secret}"},
        {"Cookie": f"token={secret}"},
    ):
        assert_problem(nobody.get("/v1/jobs", headers=headers), 401)
    assert_problem(nobody.get("/v1/jobs", params={"token": secret}), 401)
    assert_problem(nobody.get("/v1/jobs", headers={"Authorization": f"Bearer {secret[:-1]}"}), 401)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_calls_its_own_routes_and_no_other(
    shared_server: OrreryServer, role: str
) -> None:
    client = shared_server.new_client(role)
    for method, template, path in _walk(shared_server):
        if (method, template) in PUBLIC:
            continue
        answer = client.request(method, path)
        if role in MAY_CALL[method, template]:
            assert answer.status_code not in {401, 403}, (method, template)
        else:
            assert_problem(answer, 403, "forbidden")


def test_a_head_request_needs_a_token_too(shared_server: OrreryServer) -> None:
    assert shared_server.http(None).head("/v1/jobs").status_code == 401


def test_the_address_decides_however_it_is_written(shared_server: OrreryServer) -> None:
    user = shared_server.new_client("user")
    for path in ("/v1//tokens", "/v1/jobs/../tokens", "/v1/jobs/%2e%2e/tokens", "//v1/tokens"):
        for client in (user, shared_server.http(None)):
            answer = client.get(shared_server.url + path)
            assert answer.status_code in {401, 403, 404, 422}, path
            assert "secret" not in answer.text


def test_an_expired_token_opens_nothing(shared_server: OrreryServer) -> None:
    now = time.time()
    secrets = {}
    for name, expires_at in (("expired", now - 1), ("valid", now + 1000)):
        _, secrets[name] = shared_server.write(
            lambda c, at=expires_at: tokens.create_token(c, "t", "user", now=now, expires_at=at)
        )
    shared_server.read(shared_server.service.tokens.load)
    assert shared_server.http(secrets["valid"]).get("/v1/jobs").status_code == 200
    assert_problem(shared_server.http(secrets["expired"]).get("/v1/jobs"), 401)


def test_a_token_expires_when_its_time_is_over(
    shared_server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"name": "short", "role": "user", "expires_in_s": 60}
    made = shared_server.admin.post("/v1/tokens", json=body).json()
    client = shared_server.http(made["secret"])
    assert client.get("/v1/jobs").status_code == 200
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    assert_problem(client.get("/v1/jobs"), 401)


def test_a_revoked_token_opens_nothing_from_then_on(shared_server: OrreryServer) -> None:
    body = {"name": "short-lived", "role": "user"}
    made = shared_server.admin.post("/v1/tokens", json=body).json()
    client = shared_server.http(made["secret"])
    assert client.get("/v1/jobs").status_code == 200
    answer = shared_server.admin.delete(f"/v1/tokens/{made['id']}")
    assert answer.status_code == 200
    assert answer.json()["revoked_at"] is not None
    assert_problem(client.get("/v1/jobs"), 401)


@pytest.mark.slow
def test_a_revoked_token_stays_revoked_after_a_restart(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        made = server.admin.post("/v1/tokens", json={"name": "t", "role": "user"}).json()
        kept = server.new_token("user")
        server.admin.delete(f"/v1/tokens/{made['id']}")
    with OrreryServer(tmp_path) as server:
        assert_problem(server.http(made["secret"]).get("/v1/jobs"), 401)
        assert server.http(kept).get("/v1/jobs").status_code == 200


def test_tokens_are_listed_without_their_secrets(shared_server: OrreryServer) -> None:
    secret = shared_server.new_token("viewer", "for the wall display")
    answer = shared_server.admin.get("/v1/tokens")
    assert "for the wall display" in [token["name"] for token in answer.json()["data"]]
    assert secret not in answer.text
    assert tokens.hash_secret(secret) not in answer.text


@pytest.mark.parametrize("role", ["root", "", "Admin", None, ["admin"]])
def test_a_token_of_an_unknown_role_is_not_made(shared_server: OrreryServer, role: Any) -> None:
    answer = shared_server.admin.post("/v1/tokens", json={"name": "x", "role": role})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/role"


# --- sites --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "xn--localhost",
        "",
        "127.0.0.1@evil.example",
    ],
)
def test_a_foreign_host_is_misdirected(shared_server: OrreryServer, host: str) -> None:
    for path in ("/v1/jobs", "/healthz", "/nothing"):
        answer = shared_server.admin.get(path, headers={"Host": host})
        assert_problem(answer, 421, "misdirected")


@pytest.mark.parametrize("host", ["[", "[::1", "[evil]", "]", "a]b", "\xe9", "[v1.x]"])
def test_a_host_that_is_no_host_is_a_problem(shared_server: OrreryServer, host: str) -> None:
    answer = shared_server.admin.get("/v1/jobs", headers={"Host": host.encode("latin-1")})
    assert 400 <= answer.status_code < 500, answer.text
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080"])
def test_this_machines_own_names_are_answered(shared_server: OrreryServer, host: str) -> None:
    assert shared_server.admin.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_a_host_that_the_settings_allow_is_answered(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, allowed_hosts=["gpu.example"]) as server:
        for host, status in (("gpu.example", 200), ("GPU.example:80", 200), ("x.example", 421)):
            assert server.admin.get("/v1/jobs", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example",
        "",
        "http://[",
        "http://[evil]",
    ],
)
def test_a_page_of_another_site_is_not_answered(shared_server: OrreryServer, origin: str) -> None:
    for method, path in (("get", "/v1/jobs"), ("post", "/v1/jobs"), ("options", "/v1/jobs")):
        answer = shared_server.admin.request(method, path, headers={"Origin": origin})
        assert_problem(answer, 403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers


def test_the_servers_own_page_is_answered(shared_server: OrreryServer) -> None:
    answer = shared_server.admin.get("/v1/jobs", headers={"Origin": shared_server.url})
    assert answer.status_code == 200


# --- whose jobs ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_users_see_only_their_own_jobs(server: OrreryServer) -> None:
    mine, other = server.new_client("user"), server.new_client("user")
    job, assignment = server.start(client=mine)
    server.report(
        assignment["lease_id"],
        epochs=[epoch_metrics(0)],
        checkpoints=[checkpoint(assignment, 0)],
    )
    saved = server.job(job["id"])["latest_checkpoint"]["id"]
    paths = [f"/v1/jobs/{job['id']}{end}" for end in ("", "/metrics", "/events", "/logs")]
    paths += [f"/v1/jobs/{job['id']}/checkpoints"]
    paths += [f"/v1/checkpoints/{saved}", f"/v1/checkpoints/{saved}/content"]
    for path in paths:
        assert mine.get(path).status_code == 200, path
        assert_problem(other.get(path), 404, "not_found")
        assert server.new_client("viewer").get(path).status_code == 200, path
    assert_problem(other.post(f"/v1/jobs/{job['id']}/cancel"), 404, "not_found")
    assert server.job(job["id"])["status"] == "running"
    assert other.get("/v1/jobs").json()["data"] == []
    assert [seen["id"] for seen in mine.get("/v1/jobs").json()["data"]] == [job["id"]]


def test_workers_shown_to_a_user_do_not_tell_of_others_jobs(server: OrreryServer) -> None:
    job, _ = server.start(client=server.new_client("user"))
    assert job["id"] not in server.new_client("user").get("/v1/workers").text


# --- closed by default --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/later", "/later", "/v1/jobs-later", "/redoc"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_route_that_is_added_later_is_closed_until_a_rule_opens_it(
    shared_server: OrreryServer, path: str, method: str
) -> None:
    application = layer(shared_server.app)
    if not any(getattr(route, "path", "") == path for route in application.routes):

        async def later() -> dict[str, str]:
            return {"secret": "open"}

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        application.add_api_route(path, later, methods=methods, include_in_schema=False)
    assert_problem(shared_server.http(None).request(method, path), 401)
    for role in ("user", "worker", "viewer"):
        assert_problem(shared_server.new_client(role).request(method, path), 403)
    assert shared_server.admin.request(method, path).json() == {"secret": "open"}


def test_jobs_cannot_be_changed_by_methods_without_a_rule(shared_server: OrreryServer) -> None:
    path = shared_server.submit()["id"]
    for role, methods in (("user", ("PUT",)), ("viewer", ("PUT", "PATCH", "DELETE"))):
        client = shared_server.new_client(role)
        for method in methods:
            assert_problem(client.request(method, f"/v1/jobs/{path}"), 403)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu.example", ""])
def test_listening_to_the_network_without_tokens_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="tokens"):
        ServerSettings(host=host, auth=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_loopback_may_go_without_tokens(host: str) -> None:
    assert ServerSettings(host=host, auth=False).auth is False


def test_without_tokens_foreign_pages_are_still_kept_out(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, auth=False) as server:
        nobody = server.http(None)
        assert nobody.post("/v1/jobs", json={"config": TINY}).status_code == 201
        assert_problem(nobody.get("/v1/jobs", headers={"Host": "evil.example"}), 421)
        assert_problem(nobody.get("/v1/jobs", headers={"Origin": "http://evil.example"}), 403)


# --- secrets ------------------------------------------------------------------------------------


def test_token_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        for path in (server.settings.admin_token_path, server.settings.worker_token_path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.admin_token != server.worker_token


def test_the_servers_own_folder_is_closed_to_others(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        assert stat.S_IMODE(server.settings.state_folder.stat().st_mode) == 0o700


@pytest.mark.slow
def test_tokens_in_files_survive_a_restart(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        secrets = server.admin_token, server.worker_token
    with OrreryServer(tmp_path) as server:
        assert (server.admin_token, server.worker_token) == secrets
        assert server.admin.get("/v1/jobs").status_code == 200


@pytest.mark.slow
def test_a_replaced_token_file_replaces_its_token(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        old, path = server.admin_token, server.settings.admin_token_path
    path.write_text("orrery_a-new-and-long-secret\n", encoding="utf-8")
    with OrreryServer(tmp_path) as server:
        assert server.admin.get("/v1/jobs").status_code == 200
        assert_problem(server.http(old).get("/v1/jobs"), 401)


def test_a_secret_too_short_to_be_safe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("short\n", encoding="utf-8")
    with pytest.raises(ValueError, match="16 characters"):
        secret_files.read_or_make_secret(path)


def test_secrets_are_nowhere_in_the_database(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        secrets = [server.admin_token, server.worker_token, server.new_token("user")]
        files = list(server.settings.state_folder.glob("orrery.db*"))
        contents = [file.read_bytes() for file in files]
    contents.append(server.settings.database_path.read_bytes())
    assert any(b"token_" in content for content in contents)
    for secret in secrets:
        assert not any(secret.encode() in content for content in contents)


def test_a_query_parameter_that_is_not_there_is_refused(server: OrreryServer) -> None:
    job = server.submit()["id"]
    for path, name, hint in (
        ("/v1/jobs?state=failed", "state", "did you mean 'status'?"),
        (f"/v1/jobs/{job}?waits=3", "waits", "did you mean 'wait'?"),
        (f"/v1/jobs/{job}/metrics?keys=epoch&downsample=9", "downsample", "use "),
        ("/v1/queue?a%2Fb=1", "a~1b", "use "),
        ("/v1/workers?x=1", "x", "use "),
    ):
        problem = assert_problem(server.admin.get(path), 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == f"/query/{name}"
        assert hint in problem["errors"][0]["detail"]
    assert server.admin.get("/healthz?now=1").status_code == 200


def test_jobs_can_be_asked_for_by_kind(server: OrreryServer) -> None:
    server.submit()
    assert len(server.admin.get("/v1/jobs?kind=train").json()["data"]) == 1
    assert server.admin.get("/v1/jobs?kind=simulate&kind=evaluate").json()["data"] == []


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/v1/jobs/JOB", "/openapi.json"])
def test_head_is_get_without_the_body(server: OrreryServer, path: str) -> None:
    path = path.replace("JOB", server.submit()["id"])
    head, get = server.admin.head(path), server.admin.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == get.headers["content-length"]
    assert server.admin.get(path).status_code == 200  # the connection is still in order


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_a_body_that_says_it_is_not_json_is_told_what_to_send(
    server: OrreryServer, kind: str
) -> None:
    answer = server.admin.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
    assert "application/json" in assert_problem(answer, 400, "malformed_body")["detail"]


def test_a_token_file_that_cannot_be_read_is_told_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    settings = ServerSettings(data=tmp_path / "data", admin_token_file=tmp_path / "token")
    with pytest.raises(OSError, match=r"token file .*token: .*the server's user can read"):
        prepare(settings)
    (tmp_path / "short").write_text("abc")
    short = ServerSettings(data=tmp_path / "data", worker_token_file=tmp_path / "short")
    with pytest.raises(ValueError, match="16 characters"):
        prepare(short)
    prepare(ServerSettings(data=tmp_path / "data")).release()  # the folder is free


@pytest.mark.slow
def test_a_long_poll_whose_token_is_revoked_meanwhile_shows_nothing(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LATE_S", 0.0)
    job = server.submit()
    made = server.admin.post("/v1/tokens", json={"name": "eve", "role": "viewer"}).json()
    with ThreadPoolExecutor(1) as pool, server.http(made["secret"]) as eve:
        path = f"/v1/jobs/{job['id']}"
        version = eve.get(path).headers["etag"].strip('W/"')
        asked = pool.submit(eve.get, path, params={"wait": 20, "version": version})
        server.until(lambda: server.waiters(job["id"]) == 1)
        server.admin.delete(f"/v1/tokens/{made['id']}")
        server.admin.patch(path, json={"name": "secret"})
        assert_problem(asked.result(30), 401, "unauthenticated")
        assert "secret" not in asked.result().text
