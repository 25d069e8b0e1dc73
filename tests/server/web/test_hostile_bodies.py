"""Whatever is sent: an answer that says what is wrong and where, never 5xx, and nothing grows."""

import gc
import json
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nbody.config import Config
from server.wire.jobs import JobSubmission
from tests.server.conftest import TINY, OrreryServer, assert_problem, checkpoint, epoch_metrics

Json = dict[str, Any]
SCHEMA = Config.model_json_schema()["properties"]
HUGE = [2**63, 2**64, -(2**63) - 1, 10**400]
PATHS = [
    "../../x",
    "/etc/passwd",
    "..",
    "a/../../b",
    "..\\..\\x",
    "C:\\x",
    "a\u0000b",
    "%2e%2e%2fx",
]


def _post(server: OrreryServer, body: bytes, path: str = "/v1/jobs") -> httpx.Response:
    headers = {"content-type": "application/json"}
    return server.admin.post(path, content=body, headers=headers)


def _pointers(answer: httpx.Response) -> list[str]:
    problem = assert_problem(answer, answer.status_code)
    assert 400 <= answer.status_code < 500, answer.text
    assert len(answer.content) < 20_000
    return [error["pointer"] for error in problem["errors"]]


# --- bodies that cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"name": "\\ud800", "config": {}}', "/name"),
        (b'{"name": "\\udc00x", "config": {}}', "/name"),
        (b'{"config": {"extra": {"\\ud83d": 1}}}', "/config/extra"),
        (b'{"config": {"save_name": "\xff"}}', "/config/save_name"),
        (b'{"config": {"lr": 1,}}', "/config"),
        (b'{"config": {"lr": .5}}', "/config/lr"),
        (b'{"config": {"lr": 0x10}}', "/config/lr"),
        (b'{"name": "a\nb"}', "/name"),
        (b'{"config": ' + b"[" * 30_000, "/config"),
        (b'{"config": ' + b'{"a":' * 9_000, "/config"),
        (b'{"config": {"extra": {"deep": ' + b"[" * 30_000 + b"]" * 30_000 + b"}}}", "/config"),
        (b'{"config": ' + b"[" * 100_000, ""),
        (b'{"config": {"epochs": ', "/config"),
        (b"", ""),
        (b"not json", ""),
        (b"{", ""),
        (b"\x00", ""),
        (b"\xef\xbb\xbf{}", ""),
        (b'{"config": {}} trailing', ""),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_body_that_cannot_be_read_is_refused_and_says_where(
    shared_server: OrreryServer, body: bytes, where: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        answer = _post(shared_server, body, path)
        assert answer.status_code in {400, 422}, answer.text
        assert any(pointer.startswith(where) for pointer in _pointers(answer))


def test_a_body_of_20_megabytes_is_too_large(shared_server: OrreryServer) -> None:
    body = b'{"name": "' + b"x" * 20_000_000 + b'"}'
    assert_problem(_post(shared_server, body), 413, "body_too_large")


def test_a_large_body_in_pieces_of_unknown_length_is_too_large(
    shared_server: OrreryServer,
) -> None:
    pieces = (b" " * 65536 for _ in range(64))
    answer = shared_server.admin.post("/v1/jobs", content=pieces)
    assert_problem(answer, 413, "body_too_large")


def _raw(server: OrreryServer, head: str, body: bytes = b"") -> bytes:
    """The answer to a request that no client library would send."""
    lines = f"{head}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.admin_token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(lines.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return answer


def test_an_announced_length_that_is_absurd_is_too_large(shared_server: OrreryServer) -> None:
    for length in (2**40, 9 * 10**18):
        answer = _raw(shared_server, f"POST /v1/jobs HTTP/1.1\r\nContent-Length: {length}")
        assert answer.startswith(b"HTTP/1.1 413"), answer
        assert b"application/problem+json" in answer


@pytest.mark.slow
def test_a_half_sent_body_is_given_up_on(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, body_timeout_s=0.2) as server:
        answer = _raw(server, "POST /v1/jobs HTTP/1.1\r\nContent-Length: 500", b'{"config":')
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"application/problem+json" in answer
        assert server.admin.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
def test_a_body_of_another_type_is_refused(shared_server: OrreryServer, content_type: str) -> None:
    body = json.dumps({"config": TINY}).encode()
    answer = shared_server.admin.post(
        "/v1/jobs", content=body, headers={"content-type": content_type}
    )
    assert 400 <= answer.status_code < 500
    assert_problem(answer, answer.status_code)


# --- fields that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true", b'[{"config": {}}]'])
def test_a_body_that_is_no_object_is_refused(shared_server: OrreryServer, body: bytes) -> None:
    assert _pointers(_post(shared_server, body)) == [""]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "field", [name for name, field in SCHEMA.items() if "number" in json.dumps(field)]
)
def test_a_number_that_is_not_finite_is_refused(
    shared_server: OrreryServer, field: str, number: str
) -> None:
    value = f"[{number}]" if "array" in json.dumps(SCHEMA[field]) else number
    answer = _post(shared_server, f'{{"config": {{"{field}": {value}}}}}'.encode())
    assert answer.status_code in {400, 422}
    assert any(pointer.startswith(f"/config/{field}") for pointer in _pointers(answer))


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_not_finite_numbers_beside_the_config_are_refused(
    shared_server: OrreryServer, number: str
) -> None:
    for field in ("priority", "max_runtime_s", "max_attempts"):
        answer = _post(shared_server, f'{{"config": {{}}, "{field}": {number}}}'.encode())
        assert _pointers(answer) == [f"/{field}"]
    answer = _post(shared_server, f'{{"config": {{"extra": {{"a": [{number}]}}}}}}'.encode())
    assert _pointers(answer)[0].startswith("/config/extra")


@pytest.mark.parametrize("field", SCHEMA)
def test_numbers_that_are_too_large_are_refused(shared_server: OrreryServer, field: str) -> None:
    for number in HUGE:
        value = {"n": number} if field == "extra" else number
        if field == "extra" or abs(number) > 10**300 or "integer" in json.dumps(SCHEMA[field]):
            answer = _post(shared_server, json.dumps({"config": {field: value}}).encode())
            assert answer.status_code in {400, 422}, (number, answer.text)
            assert _pointers(answer)[0].startswith(f"/config/{field}")


@pytest.mark.parametrize("field", SCHEMA)
def test_a_value_of_a_wrong_type_is_refused_and_named(
    shared_server: OrreryServer, field: str
) -> None:
    wrong: list[Any] = [[{}], {"a": []}, [[[]]]]
    if field == "extra":
        wrong = [[], "text", 1, True]
    for value in wrong:
        answer = _post(shared_server, json.dumps({"config": {field: value}}).encode())
        assert answer.status_code == 422, answer.text
        assert all(p.startswith(f"/config/{field}") for p in _pointers(answer))


@pytest.mark.parametrize("field", [f for f in JobSubmission.model_fields if f != "config"])
def test_a_wrong_type_beside_the_config_is_refused_and_named(
    shared_server: OrreryServer, field: str
) -> None:
    for value in ([{}], {"a": []}, {"": ""}):
        body = json.dumps({"config": TINY, field: value}).encode()
        answer = _post(shared_server, body)
        assert answer.status_code == 422, answer.text
        assert all(pointer.startswith(f"/{field}") for pointer in _pointers(answer))


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("epohcs", "epochs"), ("hiden_dims", "hidden_dims"), ("LR", "lr")]
)
def test_a_misspelt_field_is_answered_with_the_nearest_one(
    shared_server: OrreryServer, misspelt: str, meant: str
) -> None:
    answer = _post(shared_server, json.dumps({"config": {misspelt: 1}}).encode())
    [error] = assert_problem(answer, 422, "invalid_request")["errors"]
    assert error["pointer"] == f"/config/{misspelt}"
    if misspelt != "LR":
        assert f"'{meant}'" in error["detail"]


def test_an_unknown_field_is_refused_and_named(shared_server: OrreryServer) -> None:
    body: Json = {"config": {"zzzzzz": 1, "a/b~c": 2}, "prioritty": 1}
    pointers = _pointers(_post(shared_server, json.dumps(body).encode()))
    assert set(pointers) == {"/config/zzzzzz", "/config/a~1b~0c", "/prioritty"}


def test_every_wrong_field_is_named_at_once(shared_server: OrreryServer) -> None:
    body: Json = {"config": {"lr": -1, "epochs": 0}, "priority": 1000, "name": 5}
    pointers = _pointers(_post(shared_server, json.dumps(body).encode()))
    assert set(pointers) == {"/config/lr", "/config/epochs", "/priority", "/name"}


def test_fields_that_disagree_are_named(shared_server: OrreryServer) -> None:
    body: Json = {"config": {"e_min": 0.9, "e_max": 0.1}}
    assert _pointers(_post(shared_server, json.dumps(body).encode())) == ["/config/e_max"]


@pytest.mark.parametrize(
    "save_name", [*PATHS, "a/b", ".", "", ".orrery", "x" * 65, "é", "a b", "a\n", " "]
)
def test_a_save_name_that_is_no_plain_name_is_refused(
    shared_server: OrreryServer, save_name: str
) -> None:
    body = json.dumps({"config": {"save_name": save_name}}).encode()
    pointers = _pointers(_post(shared_server, body))
    assert all(pointer.startswith("/config") for pointer in pointers)
    assert any("save_name" in pointer for pointer in pointers)


@pytest.mark.parametrize(
    "ic_path", [*(p for p in PATHS if "%" not in p), "", "file:///etc/passwd", "x" * 256, "a\nb"]
)
def test_initial_conditions_outside_the_data_folder_are_refused(
    shared_server: OrreryServer, ic_path: str
) -> None:
    config = {"initial_conditions": "file", "ic_path": ic_path}
    body = json.dumps({"config": config}).encode()
    assert _pointers(_post(shared_server, body)) == ["/config/ic_path"]


@pytest.mark.parametrize("ic_path", [".orrery/admin.token", ".orrery/orrery.db", "./.orrery/x.csv"])
def test_initial_conditions_in_the_servers_own_folder_are_refused(
    shared_server: OrreryServer, ic_path: str
) -> None:
    config = {"initial_conditions": "file", "ic_path": ic_path}
    body = json.dumps({"config": config}).encode()
    assert any("ic_path" in pointer for pointer in _pointers(_post(shared_server, body)))


@pytest.mark.parametrize("text", PATHS)
def test_a_path_in_any_other_text_leads_nowhere(server: OrreryServer, text: str) -> None:
    data = server.settings.data
    before = _files_around(data)
    for fields in (
        {"name": text},
        {"metadata": {"k": text}},
        {"metadata": {text: "v"}},
        {"config": {**TINY, "wandb_project": text, "wandb_name": text}},
        {"config": {**TINY, "device": text}},
        {"config": {**TINY, "extra": {text: text}}},
    ):
        answer = _post(server, json.dumps({"config": TINY, **fields}).encode())
        assert answer.status_code < 500, answer.text
        if answer.status_code != 201:
            _pointers(answer)
            continue
        assignment = server.claim()
        assert assignment is not None
        assert assignment["output_folder"] == f"run_nbody/{answer.json()['id']}/attempt-1"
    assert _files_around(data) == before


def _files_around(data: Path) -> set[Path]:
    """What stands in and beside a folder, but for what is written anew and pytest's links."""
    found = (p for p in data.parent.rglob("*") if not p.is_symlink())
    return {p for p in found if ".db" not in p.name and not p.name.startswith(".database.")}


@pytest.mark.parametrize("key", ["../../x", "a/b", "", "x" * 65, "a\u0000", "\u2028", "a b"])
def test_a_metadata_key_that_is_no_identifier_is_refused(
    shared_server: OrreryServer, key: str
) -> None:
    body = json.dumps({"config": TINY, "metadata": {key: "v"}}).encode()
    assert all(pointer.startswith("/metadata") for pointer in _pointers(_post(shared_server, body)))


def test_metadata_is_bounded(shared_server: OrreryServer) -> None:
    for metadata in ({f"k{n}": "" for n in range(33)}, {"k": "x" * 201}, {"k": 1}, {"k": None}):
        body = json.dumps({"config": TINY, "metadata": metadata}).encode()
        pointers = _pointers(_post(shared_server, body))
        assert all(pointer.startswith("/metadata") for pointer in pointers)


@pytest.mark.parametrize("field", ["name", "save_name"])
def test_nul_and_control_characters_are_refused(shared_server: OrreryServer, field: str) -> None:
    for character in ("\u0000", "\u001b", "\n", "\u007f"):
        body: Json = {"config": dict(TINY)}
        (body if field == "name" else body["config"])[field] = f"a{character}b"
        pointers = _pointers(_post(shared_server, json.dumps(body).encode()))
        assert any(field in pointer for pointer in pointers)


def test_input_is_never_echoed_whole(shared_server: OrreryServer) -> None:
    marker = "s3cret" * 50
    bodies: list[Json] = [
        {"config": {"lr": marker}},
        {"config": {marker: 1}},
        {"config": TINY, "name": [marker]},
        {"config": TINY, marker: marker},
        {"config": {"save_name": marker}},
        {"config": {"extra": marker}},
        {"config": {"loss": marker}},
        {"config": TINY, "metadata": {marker: marker}},
    ]
    for body in bodies:
        answer = _post(shared_server, json.dumps(body).encode())
        assert answer.status_code == 422
        assert marker not in answer.text
    broken = _post(shared_server, b'{"name": "' + marker.encode() + b'\\ud800"}')
    assert marker not in broken.text
    missing = shared_server.admin.get(f"/v1/jobs/{marker}")
    assert 400 <= missing.status_code < 500
    assert marker not in missing.text
    nowhere = shared_server.admin.get(f"/v1/{marker}")
    assert marker not in nowhere.text


@pytest.mark.slow
def test_thousands_of_wrong_fields_get_a_short_answer(shared_server: OrreryServer) -> None:
    body = {"config": {f"field{n}": n for n in range(20_000)}}
    answer = _post(shared_server, json.dumps(body).encode())
    assert answer.status_code == 422
    assert len(_pointers(answer)) <= 50


# --- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "limit=99999999999999999999",
        "limit=NaN",
        "limit=-1",
        "after=%00",
        "after=%ff",
        "after=" + "x" * 100,
        "status=%00",
        "name=" + "x" * 300,
        "name=%ed%a0%80",
    ],
)
def test_hostile_list_parameters_are_refused(shared_server: OrreryServer, query: str) -> None:
    answer = shared_server.admin.get(f"/v1/jobs?{query}")
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert _pointers(answer)
    else:
        assert query.startswith("name")


@pytest.mark.parametrize(
    ("resource", "query"),
    [
        ("", "wait=1e999"),
        ("", "version=9223372036854775808"),
        ("", "version=-1"),
        ("/metrics", "after=9223372036854775808"),
        ("/metrics", "after=-2"),
        ("/metrics", "limit=10001"),
        ("/metrics", "&".join(f"keys=k{n}" for n in range(33))),
        ("/events", "after=9223372036854775808"),
        ("/events", "limit=0"),
        ("/logs", "offset=9223372036854775808"),
        ("/logs", "offset=-1"),
        ("/logs", "offset=1.5"),
        ("/checkpoints", "after=../../x"),
    ],
)
def test_hostile_parameters_of_a_job_are_refused(
    shared_server: OrreryServer, resource: str, query: str
) -> None:
    job_id = shared_server.submit()["id"]
    answer = shared_server.admin.get(f"/v1/jobs/{job_id}{resource}?{query}")
    assert answer.status_code == 422, answer.text
    [pointer, *_] = _pointers(answer)
    assert query.partition("=")[0] in pointer


@pytest.mark.parametrize(
    "identifier",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "job_%00", "job_" + "u" * 26, "job_" + "0" * 999, "%ff"],
)
def test_an_id_that_is_none_is_refused(shared_server: OrreryServer, identifier: str) -> None:
    for path in ("/v1/jobs/{}", "/v1/jobs/{}/logs", "/v1/checkpoints/{}/content"):
        answer = shared_server.admin.get(path.format(identifier))
        assert answer.status_code in {404, 422}
        assert_problem(answer, answer.status_code)


# --- the worker's side --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "where"),
    [
        ({"epochs": [epoch_metrics(2**63)]}, "/epochs/0/epoch"),
        ({"epochs": [epoch_metrics(0, epoch_time="NaN")]}, "/epochs/0/epoch_time"),
        ({"epochs": [epoch_metrics(0, **{"part1/acceptance_rate": 1.5})]}, "/epochs/0"),
        ({"epochs": [epoch_metrics(0, unknown=1)]}, "/epochs/0/unknown"),
        ({"epochs": [{}]}, "/epochs/0"),
        ({"epochs": [epoch_metrics(0)] * 1001}, "/epochs"),
        ({"first_epoch": -1}, "/first_epoch"),
        ({"first_epoch": 2**63}, "/first_epoch"),
        ({"phase": "sleeping"}, "/phase"),
        ({"log": {"offset": 2**63, "data": ""}}, "/log/offset"),
        ({"log": {"offset": 0, "data": "no base64!"}}, "/log/data"),
        ({"log": {"offset": 0}}, "/log/data"),
        ({"lease": "x"}, "/lease"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_report_is_refused_and_writes_nothing(
    server: OrreryServer, report: Json, where: str
) -> None:
    job, assignment = server.start()
    answer = server.report(assignment["lease_id"], **report)
    assert answer.status_code == 422, answer.text
    assert any(pointer.startswith(where) for pointer in _pointers(answer))
    assert server.metrics(job["id"])["data"] == []
    assert server.log(job["id"]) == b""


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"path": "x" * 301}, "/checkpoints/0/path"),
        ({"path": ""}, "/checkpoints/0/path"),
        ({"sha256": "F" * 64}, "/checkpoints/0/sha256"),
        ({"bytes": 2**63}, "/checkpoints/0/bytes"),
        ({"epoch": -1}, "/checkpoints/0/epoch"),
    ],
)
def test_a_hostile_checkpoint_is_refused(server: OrreryServer, changes: Json, where: str) -> None:
    _, assignment = server.start()
    saved = checkpoint(assignment, 0, **changes)
    answer = server.report(assignment["lease_id"], checkpoints=[saved])
    assert answer.status_code == 422, answer.text
    assert _pointers(answer) == [where]


@pytest.mark.parametrize("number", ["NaN", "1e999", str(2**63), str(10**400)])
def test_a_hostile_number_in_a_result_does_no_harm(server: OrreryServer, number: str) -> None:
    job, assignment = server.start()
    body = f'{{"status": "succeeded", "stop_reason": "completed", "result": {{"a": {number}}}}}'
    path = f"/v1/leases/{assignment['lease_id']}/finish"
    headers = {"content-type": "application/json"}
    answer = server.worker.post(path, content=body, headers=headers)
    assert answer.status_code < 500, answer.text
    shown = server.admin.get(f"/v1/jobs/{job['id']}")
    assert shown.status_code == 200, shown.text
    json.loads(shown.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# --- anything at all ----------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 10**400])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\ud800", "\x00", "../../x", "x" * 1000])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
some_config = st.dictionaries(st.sampled_from(sorted(SCHEMA)) | st.text(max_size=8), anything)
some_body = anything | st.fixed_dictionaries(
    {"config": some_config | st.just(TINY)},
    optional={name: anything for name in JobSubmission.model_fields if name != "config"},
)
LIMITS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@LIMITS
@given(body=some_body)
@example(body={"config": {"particles": [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]}})
@example(body={"config": {"initial_conditions": "inline", "particles": [[1] * 5, [1] * 7]}})
@example(body={"config": {"initial_conditions": "inline", "particles": []}})
@example(body={"config": {"extra": {"a": {"b": [None, True, -0.0, 2**63 - 1]}}}})
def test_no_json_makes_the_server_answer_5xx(shared_server: OrreryServer, body: Any) -> None:
    raw = json.dumps(body).encode()
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        answer = _post(shared_server, raw, path)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert _pointers(answer) is not None
        else:
            location = answer.headers.get("location")
            assert location is None or shared_server.admin.get(location).status_code == 200


@pytest.mark.slow
@LIMITS
@given(body=st.binary(max_size=200))
def test_no_bytes_make_the_server_answer_5xx(shared_server: OrreryServer, body: bytes) -> None:
    for path in ("/v1/jobs", f"/v1/jobs/job_{'0' * 26}/cancel", "/v1/tokens"):
        answer = _post(shared_server, body, path)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert_problem(answer, answer.status_code)


@pytest.mark.slow
def test_hostile_requests_leave_no_memory_behind(shared_server: OrreryServer) -> None:
    bodies = [
        b'{"config": ' + b"[" * 100_000,
        b'{"config": {"lr": NaN}}',
        b'{"name": "\\ud800"}',
        json.dumps({"config": {f"f{n}": n for n in range(500)}}).encode(),
        b'{"config": {"save_name": "../../x"}, "name": "' + b"x" * 100_000 + b'"}',
        b" " * 900_000,
        b"\xff" * 1000,
    ]

    def attack(number: int) -> None:
        for index in range(number):
            answer = _post(shared_server, bodies[index % len(bodies)])
            assert 400 <= answer.status_code < 500
            shared_server.http(None).get(f"/v1/jobs/{index:0500}")

    tracemalloc.start()
    try:
        attack(70)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        attack(300)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_000_000
