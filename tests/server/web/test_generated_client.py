"""A client that is generated from the OpenAPI document works, and nothing of the document is left
out of it.
"""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import TINY, OrreryServer

pytestmark = pytest.mark.slow

Json = dict[str, Any]
PACKAGE = "orrery_generated_client"
GENERATE_TIMEOUT_S = 60
# Ruff, of this environment, makes `1and` of the generator's templates into `1 and`.
SETTINGS = f"post_hooks: ['{sys.executable} -P -m ruff format --isolated .']\n"


class Generated:
    """The generated package: its operations by method and path, its models by name."""

    def __init__(self, folder: Path, document: Json) -> None:
        self.folder, self._document = folder, document
        self.models = importlib.import_module(f"{PACKAGE}.models")
        self._client = importlib.import_module(f"{PACKAGE}.client")

    def operation(self, method: str, path: str) -> Any:
        """The module of an operation, as the generator names it."""
        operation = self._document["paths"][path][method]
        tag = operation["tags"][0]
        name = re.sub("_+", "_", operation["operationId"])
        return importlib.import_module(f"{PACKAGE}.api.{tag}.{name}")

    def call(self, server: OrreryServer, token: str) -> Callable[..., Any]:
        """Calls operations with a token; answers what the client makes of the answer."""

        def call(method: str, path: str, *arguments: Any, **named: Any) -> Any:
            client = self._client.AuthenticatedClient(
                base_url=server.url,
                token=token,
                raise_on_unexpected_status=True,
                httpx_args={"trust_env": False},
            )
            with client:
                return self.operation(method, path).sync(*arguments, client=client, **named)

        return call


@pytest.fixture(scope="module")
def made(
    _running_server: OrreryServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.CompletedProcess[str], Path, Json]]:
    """What the generator said, the folder that it made, and the document that it was given."""
    folder = tmp_path_factory.mktemp("client")
    answer = _running_server.admin.get("/openapi.json")
    (folder / "openapi.json").write_bytes(answer.content)
    (folder / "settings.yml").write_text(SETTINGS, encoding="utf-8")
    package = folder / PACKAGE
    generator = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    options = {
        "--path": folder / "openapi.json",
        "--config": folder / "settings.yml",
        "--output-path": package,
        "--meta": "none",
    }
    done = subprocess.run(
        [*generator, *(str(part) for option in options.items() for part in option)],
        capture_output=True,
        text=True,
        timeout=GENERATE_TIMEOUT_S,
        check=False,
    )
    sys.path.insert(0, str(folder))
    yield done, package, answer.json()
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def generated(made: tuple[subprocess.CompletedProcess[str], Path, Json]) -> Generated:
    _, package, document = made
    return Generated(package, document)


@pytest.fixture
def call(generated: Generated, server: OrreryServer) -> Callable[..., Any]:
    return generated.call(server, server.admin_token)


@pytest.fixture
def submission(generated: Generated) -> Any:
    models = generated.models
    return models.JobSubmission(
        config=models.Config(**TINY),
        name="generated",
        metadata=models.JobSubmissionMetadata.from_dict({"paper": "draft"}),
    )


def test_the_generator_has_nothing_to_complain_of(
    made: tuple[subprocess.CompletedProcess[str], Path, Json],
) -> None:
    done, package, _ = made
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.split() == ["Generating", str(package)]


def test_every_operation_is_in_the_client(generated: Generated) -> None:
    made = {path for path in (generated.folder / "api").rglob("*.py") if path.stem != "__init__"}
    operations = {
        Path(generated.operation(method, path).__file__)
        for path, operations in generated._document["paths"].items()
        for method in operations
    }
    assert operations == made


def test_a_job_is_submitted_shown_listed_and_cancelled(
    generated: Generated, call: Callable[..., Any], submission: Any
) -> None:
    models = generated.models
    job = call("post", "/v1/jobs", body=submission)
    assert isinstance(job, models.JobView)
    assert job.status is models.JobStatus.QUEUED
    assert job.config.epochs == TINY["epochs"]
    assert job.metadata["paper"] == "draft"

    shown = call("get", "/v1/jobs/{job_id}", job.id)
    assert isinstance(shown, models.JobView)
    assert shown == job

    page = call("get", "/v1/jobs", status=[models.JobStatus.QUEUED], limit=5)
    assert [item.id for item in page.data] == [job.id]
    assert isinstance(page.data[0], models.ListedJob)
    assert page.data[0].created_at == job.created_at
    assert not page.has_more

    request = models.CancelRequest(grace_s=1.0)
    cancelled = call("post", "/v1/jobs/{job_id}/cancel", job.id, body=request)
    assert cancelled.status is models.JobStatus.CANCELLED
    assert cancelled.finished_at >= job.created_at


def test_a_config_is_validated(
    generated: Generated, call: Callable[..., Any], submission: Any
) -> None:
    report = call("post", "/v1/jobs/validate", body=submission)
    assert isinstance(report, generated.models.ValidationReport)
    assert report.config.hidden_dims == TINY["hidden_dims"]
    assert report.parameter_count > 0
    assert call("get", "/v1/jobs").data == []


def test_an_error_is_a_problem_document(
    generated: Generated, call: Callable[..., Any], submission: Any
) -> None:
    submission.config.epochs = 0
    refused = call("post", "/v1/jobs", body=submission)
    assert isinstance(refused, generated.models.Problem)
    assert (refused.status, refused.code) == (422, "invalid_request")
    assert refused.type_ == "urn:orrery:problem:invalid_request"
    assert refused.title
    assert refused.request_id
    [error] = refused.errors
    assert error.to_dict()["pointer"] == "/config/epochs"

    missing = call("get", "/v1/jobs/{job_id}", f"job_{'0' * 26}")
    assert isinstance(missing, generated.models.Problem)
    assert (missing.status, missing.code) == (404, "not_found")
    assert not missing.errors


def test_what_a_problem_says_of_a_field_has_a_type(
    generated: Generated, call: Callable[..., Any], submission: Any
) -> None:
    submission.config.epochs = 0
    [error] = call("post", "/v1/jobs", body=submission).errors
    assert error.pointer == "/config/epochs"
    assert error.detail


def test_a_wrong_token_is_a_problem_document(generated: Generated, server: OrreryServer) -> None:
    refused = generated.call(server, "orrery_of_somebody_else")("get", "/v1/jobs")
    assert isinstance(refused, generated.models.Problem)
    assert (refused.status, refused.code) == (401, "unauthenticated")


def test_a_log_is_text(
    generated: Generated, call: Callable[..., Any], server: OrreryServer
) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], log={"offset": 0, "data": "aGVsbG8="})
    assert call("get", "/v1/jobs/{job_id}/logs", job["id"]) == "hello"


def test_a_checkpoint_is_bytes(
    generated: Generated, call: Callable[..., Any], server: OrreryServer
) -> None:
    _, assignment = server.start()
    path = f"{assignment['output_folder']}/model/model_epoch_0000.pt"
    (server.settings.data / path).parent.mkdir(parents=True)
    (server.settings.data / path).write_bytes(b"stepper")
    saved = {"epoch": 0, "path": path, "bytes": 7, "sha256": "0" * 64}
    server.report(assignment["lease_id"], checkpoints=[saved])
    [known] = call("get", "/v1/jobs/{job_id}/checkpoints", assignment["job"]).data
    content = call("get", "/v1/checkpoints/{checkpoint_id}/content", known.id)
    assert content.payload.read() == b"stepper"
