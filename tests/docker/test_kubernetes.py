"""The manifests, against the schemas that Kubernetes publishes, and against the images."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import ServerSettings
from worker.settings import option_parser

FOLDER = Path(__file__).parents[2] / "docker"
RELEASES = ("1.29", "1.37")
DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in sorted((FOLDER / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["template"]["spec"]


@pytest.fixture(params=["server-Deployment", "workers-Job"])
def pod(request: pytest.FixtureRequest) -> dict[str, Any]:
    return pod_of(next(each.values[0] for each in DOCUMENTS if each.id == request.param))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_manifest_is_what_kubernetes_says_that_it_is(
    document: dict[str, Any], release: str
) -> None:
    kubernetes_validate.validate(document, release, strict=True)


def test_a_field_that_does_not_exist_is_seen() -> None:
    (job,) = [each.values[0] for each in DOCUMENTS if each.values[0]["kind"] == "Job"]
    wrong = {**job, "spec": {**job["spec"], "parallel": 4}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


def test_a_container_has_no_more_rights_than_it_needs(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # a service `orrery` would set ORRERY_PORT
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_images_are_those_of_compose_and_run_as_their_user(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["image"] == COMPOSE[container["name"]]["image"]
    dockerfile = (FOLDER / f"{container['name']}.Dockerfile").read_text()
    user = pod["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile


def test_every_setting_exists(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    names = {each["name"] for each in container["env"]} - {"WANDB_MODE"}
    known = {f"ORRERY_{field.upper()}" for field in ServerSettings.model_fields}
    of_clients = {"ORRERY_TOKEN_FILE"}
    of_workers = set(option_parser().format_help().replace("(", " ").replace(")", " ").split())
    assert names <= known | of_clients | of_workers


def test_tokens_are_files_of_a_secret(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    for each in container["env"]:
        if each["name"].endswith("TOKEN_FILE"):
            assert each["value"].startswith(mounted["tokens"])
    (secret,) = [each["secret"] for each in pod["volumes"] if "secret" in each]
    assert secret["defaultMode"] == 0o440


def test_workers_end_by_themselves_and_kueue_lets_them_begin() -> None:
    (job,) = [each.values[0] for each in DOCUMENTS if each.values[0]["kind"] == "Job"]
    (container,) = pod_of(job)["containers"]
    command = container["command"]
    assert command[:3] == ["python", "-m", "worker"]
    option_parser().parse_args(command[3:])
    assert "--idle-exit" in command
    assert pod_of(job)["restartPolicy"] == "Never"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert job["spec"]["suspend"] is True


def test_apptainer_runs_the_image_of_the_worker() -> None:
    lines = (FOLDER / "worker.def").read_text().splitlines()
    assert f"From: {COMPOSE['worker']['image']}" in lines
    dockerfile = (FOLDER / "worker.Dockerfile").read_text()
    path = next(line.partition("PATH=")[2] for line in lines if "export PATH=" in line)
    assert f'PATH="{path.removesuffix("$PATH")}${{PATH}}"' in dockerfile
    assert '    exec python -m worker "$@"' in lines
