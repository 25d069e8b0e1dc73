"""Whatever is asked, valid or not: the answer is one that the OpenAPI document promises.

Schemathesis makes the requests from the document alone: its examples, the edges of every range,
and random data, the same in every run. Ids that fit their pattern become ids of things that exist
here, so that more is answered than "there is no such job".
"""

import itertools
import re
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from server.access.roles import allowed_roles
from tests.server.conftest import OrreryServer, assert_problem, checkpoint, epoch_metrics, log_bytes

Json = dict[str, Any]
pytestmark = pytest.mark.slow
# Asked for here, so that each of its operations is a test of its own.
with tempfile.TemporaryDirectory() as _folder, OrreryServer(Path(_folder)) as _server:
    DOCUMENT: Json = _server.admin.get("/openapi.json").raise_for_status().json()

# --- where these tests do not take the document at its word, and why ----------------------------

# Streams until its job is over: asked of a job that is.
ENDLESS = {"GET /v1/jobs/{job_id}/stream"}
# Answers after up to 25 s: a wait that is valid becomes 0.
LONG_POLLS = {
    "GET /v1/jobs/{job_id}": ("query", "wait"),
    "POST /v1/workers/{worker_id}/claim": ("body", "wait_s"),
}
# Rules that JSON Schema cannot say: this status is an answer to what fits the document.
RULES_BEYOND_SCHEMAS = {
    # fields of a config must agree, and the stepper must exist and fit
    "POST /v1/jobs": 422,
    "POST /v1/jobs/validate": 422,
    # columns and conditions are of metrics, fields and labels
    "GET /v1/jobs": 422,
    "GET /v1/jobs/groups": 422,
    "GET /v1/stream": 422,
    # jobs are named in one way, and not all of them
    "POST /v1/jobs/actions": 422,
    # `config` must fit the old job's, and the checkpoint must be its own
    "POST /v1/jobs/{job_id}/retry": 422,
    # max_points needs keys
    "GET /v1/jobs/{job_id}/metrics": 422,
    # low < high, a grid needs steps, `config` and `space` must fit a Config
    "POST /v1/sweeps": 422,
    # the file has no such bytes
    "GET /v1/checkpoints/{checkpoint_id}/content": 416,
    "POST /v1/checkpoints": 422,
    "GET /v1/artifacts/{artifact_id}/content": 416,
    "GET /v1/files/{file_id}/content": 416,
    # the name says of which kind the file is, and the file must be of it
    "POST /v1/files": 422,
}
# A path that is also another route's with an id: a method that it does not have is 404, not 405.
ALSO_AN_ID = {
    f"/v1/jobs/{word}": f"GET, PATCH, DELETE: a job with the id '{word}' there is not"
    for word in ("validate", "actions", "groups")
}
# Has the body of POST /v1/jobs, whose every edge is tried there: here only random data.
WITHOUT_EDGES = "/v1/jobs/validate"
# Not followed by the walk along links: its requests would revoke its own token, hold jobs that
# nobody reports on, or never end; and files, of which only one that makes sense leads further.
NOT_WALKED = r"^/v1/(files|tokens|workers|leases)|/stream$"

# ------------------------------------------------------------------------------------------------

SEED = 20260301
LIMITS = settings(
    max_examples=10,
    stateful_step_count=6,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CONFORMANCE = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.allow_header_conformance,
]
ID = re.compile(r"(job|ckpt|file|ic|sweep|worker|lease|token)_[0-9a-z]{5,26}")
RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")
KEY = re.compile(r"[\x21-\x7e]{1,200}")


def contract(mode: str) -> Any:
    """The document as a source of requests, which depend on nothing that the server answers."""
    no_answers = {"extra-data-sources": {"responses": False}}
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "generation": {
                "mode": mode,
                # What the document does not know in a query or a head is ignored, as on the web.
                "allow-extra-parameters": False,
                "with-security-parameters": False,  # tokens have a test of their own
            },
            "phases": {
                "examples": no_answers,
                "coverage": no_answers,
                "fuzzing": no_answers | {"error-feedback": {"enabled": False}},
            },
            "operations": [
                {"include-path": WITHOUT_EDGES, "phases": {"coverage": {"enabled": False}}}
            ],
        }
    )
    return schemathesis.openapi.from_dict(deepcopy(DOCUMENT), config=config)


CONTRACT = contract("all")


class World:
    """Something of every kind for requests to aim at; new wherever a request uses it up."""

    def __init__(self, server: OrreryServer, session: requests.Session) -> None:
        self._server, self._session = server, session
        self._finished = self._finish_a_job()
        self._running = server.start()[1]
        self._worker = server.register()
        waiting = server.submit()["id"]
        self._jobs = itertools.cycle((self._finished, self._running["job"], waiting))
        self._keys = itertools.count()
        self._files = {
            kind: server.admin.get(f"/v1/jobs/{self._finished}/{files}").json()["data"][0]["id"]
            for kind, files in (("ckpt", "checkpoints"), ("file", "artifacts"))
        }
        self._sweep: str | None = None

    def _finish_a_job(self) -> str:
        """A job that has one of everything: epochs, a checkpoint, an artifact, a log, a result."""
        job, assignment = self._server.start(name="kepler", metadata={"paper": "draft"})
        folder, lease = assignment["output_folder"], assignment["lease_id"]
        saved = checkpoint(assignment, 0)
        artifact = {"path": f"{folder}/simulation.npz", "bytes": 10, "sha256": "0" * 64}
        for file in (saved, artifact):
            path = self._server.settings.data / str(file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"0123456789")
        told = self._server.report(
            lease,
            first_epoch=0,
            epochs=[epoch_metrics(0), epoch_metrics(1)],
            checkpoints=[saved],
            artifacts=[artifact],
            log=log_bytes(0, b"a line\n"),
        )
        assert told.status_code == 200, told.text
        assert self._server.finish(lease, result={"score": 1.0}).status_code == 200
        return job["id"]

    def answer(self, case: Case) -> Response:
        """The answer to a request, once it is aimed at something and waits for nothing."""
        label = case.operation.label
        case.path_parameters = self._aimed(case.path_parameters, label)
        case.query = self._aimed(case.query, label)
        if isinstance(case.body, dict):
            case.body = self._aimed(case.body, label)
        place, name = LONG_POLLS.get(label, ("query", ""))
        values = getattr(case, place)
        if isinstance(values, dict) and type(values.get(name)) in {int, float}:
            values[name] = 0 if 0 <= values[name] <= 25 else values[name]
        key = case.headers.get("Idempotency-Key")
        if isinstance(key, str) and KEY.fullmatch(key):  # else "used with another body"
            case.headers["Idempotency-Key"] = f"key-{next(self._keys)}"
        if ends := RANGE.fullmatch(str(case.headers.get("Range"))):  # else no range: 400
            first, last = sorted(int(end) for end in ends.groups())
            case.headers["Range"] = f"bytes={first}-{last}"
        is_admins = "admin" in allowed_roles(case.operation.method.upper(), case.operation.path)
        token = self._server.admin_token if is_admins else self._server.worker_token
        headers = {"Authorization": f"Bearer {token}"}
        return case.call(base_url=self._server.url, session=self._session, headers=headers)

    def _aimed(self, value: Any, label: str) -> Any:
        if isinstance(value, dict):
            return {name: self._aimed(inner, label) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._aimed(inner, label) for inner in value]
        match = ID.fullmatch(value) if isinstance(value, str) else None
        return self._existing(match[1], label) if match else value

    def _existing(self, kind: str, label: str) -> str:
        if kind in {"ckpt", "file"}:
            return self._files[kind]
        if kind == "worker":
            return self._worker
        makers = {
            "ic": self._a_file,
            "job": self._a_job,
            "lease": self._a_lease,
            "sweep": self._a_sweep,
            "token": self._a_token,
        }
        return makers[kind](label)

    def _a_file(self, _label: str) -> str:
        rows = b"1 0 0 0 0\n1 1 0 0 0\n"
        sent = self._server.admin.post(
            "/v1/files",
            params={"name": "rows.txt"},
            content=rows,
            headers={"Content-Type": "application/octet-stream"},
        )
        return sent.json()["id"]

    def _a_job(self, label: str) -> str:
        if label in ENDLESS:
            return self._finished
        if label != "DELETE /v1/jobs/{job_id}":
            return next(self._jobs)
        return self._cancelled("jobs", self._server.submit()["id"])

    def _a_lease(self, label: str) -> str:
        if label.endswith("/report"):
            return self._running["lease_id"]
        self._server.submit()
        assignment = self._server.claim(self._worker)
        assert assignment is not None
        return assignment["lease_id"]

    def _a_sweep(self, label: str) -> str:
        if self._sweep is None or label.startswith("DELETE"):
            [example] = DOCUMENT["components"]["schemas"]["SweepRequest"]["examples"]
            made = self._server.admin.post("/v1/sweeps", json=example)
            assert made.status_code == 201, made.text
            self._sweep = str(made.json()["id"])
        return self._cancelled("sweeps", self._sweep) if "DELETE" in label else self._sweep

    def _a_token(self, label: str) -> str:
        return self._server.admin.post("/v1/tokens", json={"name": "x", "role": "viewer"}).json()[
            "id"
        ]

    def _cancelled(self, kind: str, identifier: str) -> str:
        answer = self._server.admin.post(f"/v1/{kind}/{identifier}/cancel")
        assert answer.status_code == 202, answer.text
        return identifier


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def world(server: OrreryServer, session: requests.Session) -> World:
    return World(server, session)


@pytest.mark.slow
@CONTRACT.parametrize()
@LIMITS
def test_every_answer_is_one_that_the_document_promises(case: Case, world: World) -> None:
    answer = world.answer(case)
    chosen = [*CONFORMANCE, checks.negative_data_rejection]
    if RULES_BEYOND_SCHEMAS.get(case.operation.label) != answer.status_code:
        chosen.append(checks.positive_data_acceptance)
    if case.path not in ALSO_AN_ID:
        chosen.append(checks.unsupported_method)
    case.validate_response(answer, checks=chosen)


@pytest.mark.slow
def test_every_answer_along_links_is_one_that_the_document_promises(
    server: OrreryServer, session: requests.Session
) -> None:
    walk = contract("positive").exclude(path_regex=NOT_WALKED)

    class Walk(walk.as_state_machine()):
        """What one answer names is what the next request asks for."""

        def get_call_kwargs(self, case: Case) -> Json:
            headers = {"Authorization": f"Bearer {server.admin_token}"}
            return {"base_url": server.url, "session": session, "headers": headers}

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            case.validate_response(response, checks=[*CONFORMANCE, checks.use_after_free])

    Walk.run(settings=settings(LIMITS, max_examples=20))


@pytest.mark.parametrize("token", [None, "orrery_of_somebody_else"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param(method, path, id=f"{method.upper()} {path}")
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    ],
)
def test_a_token_is_asked_for_just_where_the_document_says_so(
    shared_server: OrreryServer, method: str, path: str, token: str | None
) -> None:
    operation = DOCUMENT["paths"][path][method]
    answer = shared_server.http(token).request(method, re.sub(r"{\w+}", "x", path))
    if operation.get("security", DOCUMENT["security"]):
        assert_problem(answer, 401, "unauthenticated")
    else:
        assert answer.status_code == (200 if method == "get" else 422), answer.text
