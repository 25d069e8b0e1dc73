"""The images and the compose files: what they promise, read from the files themselves.

Where Docker Compose 2 is installed, it reads them as well. Building is left to those who deploy.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker"
IMAGES = ("server", "worker")
OF_THE_FILES_ALONE = {"ORRERY_PUBLISH", "ORRERY_HOST_NAME", "ORRERY_SECRETS"}
REMOVED = object()  # what `!reset` leaves


class ComposeLoader(yaml.SafeLoader):
    """YAML with Compose's own tag."""


ComposeLoader.add_constructor("!reset", lambda *_: REMOVED)


def compose_file(name: str) -> dict[str, Any]:
    document = yaml.load((FOLDER / name).read_text(encoding="utf-8"), ComposeLoader)
    assert isinstance(document, dict)
    return document


def merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """The override laid over the base. Mappings merge; lists would append, and there are none."""
    result = dict(base)
    for key, value in override.items():
        assert not isinstance(value, list)
        if value is REMOVED:
            result.pop(key)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key, {}), value)
        else:
            result[key] = value
    return result


def base() -> dict[str, Any]:
    return compose_file("compose.yaml")


def for_cpu() -> dict[str, Any]:
    return merged(base(), compose_file("compose.cpu.yaml"))


def dockerfile(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: name and arguments, continued lines joined."""
    text = (FOLDER / f"{name}.Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    instructions = [line.partition(" ") for line in lines if line]
    return [(instruction, arguments.strip()) for instruction, _, arguments in instructions]


def last_stage(name: str) -> list[tuple[str, str]]:
    instructions = dockerfile(name)
    starts = [place for place, (word, _) in enumerate(instructions) if word == "FROM"]
    return instructions[starts[-1] :]


def arguments_of(name: str, instruction: str) -> list[str]:
    return [arguments for word, arguments in last_stage(name) if word == instruction]


def image_variables(name: str) -> dict[str, str]:
    """What the ENV instructions of an image set."""
    text = " ".join(arguments_of(name, "ENV"))
    return {key: value.strip('"') for key, value in re.findall(r'(\w+)=("[^"]*"|\S+)', text)}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def listed_requirements(*without: str, extra: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "docker/requirements.py", "--without", *without]
    command += ["--extra", extra] if extra else []
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def settings_of_the_worker() -> set[str]:
    return set(re.findall(r"ORRERY_\w+", (ROOT / "worker" / "settings.py").read_text("utf-8")))


def settings_of_the_server() -> set[str]:
    return {f"ORRERY_{name.upper()}" for name in ServerSettings.model_fields}


OF_CLIENTS = {"ORRERY_TOKEN_FILE"}  # of `orrery …` in the server's container
SETTINGS = {
    "server": settings_of_the_server() | OF_CLIENTS,
    "worker": settings_of_the_worker(),
}


@pytest.mark.parametrize("name", IMAGES)
def test_hadolint_has_nothing_to_say_about_a_dockerfile(name: str) -> None:
    beside_python = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    assert hadolint is not None, "hadolint comes with the test dependencies"
    command = [hadolint, str(FOLDER / f"{name}.Dockerfile")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("name", IMAGES)
def test_every_stage_starts_from_the_same_pinned_python(name: str) -> None:
    sources = [arguments.split()[0] for word, arguments in dockerfile(name) if word == "FROM"]
    assert set(sources) == {"python:3.11-slim-bookworm"}
    assert len(sources) == 3


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_the_one_user_that_is_not_root(name: str) -> None:
    assert arguments_of(name, "USER") == ["10001:10001"]
    runs = " ".join(arguments_of(name, "RUN"))
    assert "useradd --uid 10001 " in runs
    assert "--owner=orrery --group=orrery --mode=0750 /data" in runs
    instructions = [word for word, _ in last_stage(name)]
    assert not {"COPY", "ADD"} & set(instructions[instructions.index("USER") :])


@pytest.mark.parametrize("name", IMAGES)
def test_the_commands_of_an_image_are_started_without_a_shell(name: str) -> None:
    (command,) = arguments_of(name, "CMD")
    assert (
        json.loads(command)
        == {
            "server": ["orrery", "serve"],
            "worker": ["python", "-m", "worker"],
        }[name]
    )
    (health,) = arguments_of(name, "HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2])[0] == "python"


@pytest.mark.parametrize("name", IMAGES)
def test_programs_find_python_where_they_were_installed(name: str) -> None:
    runs = [arguments for word, arguments in dockerfile(name) if word == "RUN"]
    assert re.findall(r"-m venv (\S+)", " ".join(runs)) == ["/opt/venv", "/opt/venv"]
    assert image_variables(name)["PATH"] == "/opt/orrery/bin:/opt/venv/bin:${PATH}"
    assert image_variables(name)["PYTHONPATH"] == "/opt/orrery"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_what_it_is(name: str) -> None:
    labels = re.findall(r"org\.opencontainers\.image\.(\w+)=", arguments_of(name, "LABEL")[0])
    assert labels == ["title", "description", "licenses", "version", "revision"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_no_secret_and_no_address_of_a_package_index(name: str) -> None:
    text = (FOLDER / f"{name}.Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"https?://|token|password", text, re.IGNORECASE)
    assert {argument.partition("=")[0] for argument in arguments_of(name, "ARG")} == {
        "VERSION",
        "REVISION",
    }


@pytest.mark.parametrize("name", IMAGES)
def test_every_setting_of_an_image_exists(name: str) -> None:
    used = {key for key in image_variables(name) if key.startswith("ORRERY_")}
    assert used
    assert used <= SETTINGS[name]


def test_only_what_an_image_is_built_from_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {line.removeprefix("!") for line in rules if line.startswith("!")}
    used: set[str] = set()
    for name in IMAGES:
        copies = [arguments for word, arguments in dockerfile(name) if word == "COPY"]
        from_here = [line.split()[:-1] for line in copies if not line.startswith("--from=")]
        used.update(path for paths in from_here for path in paths)
    assert {re.sub(r"docker/\w+\.lock", "docker/*.lock", path) for path in used} == sent
    assert all(any(ROOT.glob(path)) for path in sent)


@pytest.mark.parametrize("name", IMAGES)
def test_what_a_package_takes_from_elsewhere_is_in_the_image(name: str) -> None:
    """Without these files the package is not built at all."""
    copies = [arguments.split() for word, arguments in dockerfile(name) if word == "COPY"]
    patterns = [pattern for paths in copies for pattern in paths[:-1]]
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for path in wheel["targets"]["wheel"]["force-include"]:
        assert any(PurePath(path).match(pattern) for pattern in patterns), path


def locked(name: str) -> dict[str, list[str]]:
    """The packages that an image is made of: `name==version`, and the hashes of each."""
    text = (FOLDER / f"{name}.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {line[0]: [word for word in line if word.startswith("--")] for line in lines}


def lacking(name: str, *left_out: str, extra: str = "") -> list[str]:
    """Dependencies of the project that a lock does not fulfil."""
    pins = {Requirement(pin).name.lower().replace("_", "-"): pin for pin in locked(name)}
    found: list[str] = []
    for line in listed_requirements(*left_out, extra=extra).stdout.splitlines():
        wanted = Requirement(line)
        version = pins.get(wanted.name, "==").split("==")[1]
        markers = wanted.marker is None or wanted.marker.evaluate()
        if markers and not (version and wanted.specifier.contains(version)):
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("name", "left_out", "extra"),
    [("server", ["torch", "wandb"], "s3"), ("worker", ["torch"], "")],
)
def test_an_image_is_made_of_packages_that_are_known_by_their_hashes(
    name: str, left_out: list[str], extra: str
) -> None:
    """One that lacks what pyproject.toml asks for is stale: `.ci/lock` writes it."""
    assert lacking(name, *left_out, extra=extra) == []
    packages = locked(name)
    assert not [pin for pin in packages if pin.split("==")[0] in left_out]
    for pin, hashes in packages.items():
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pin
    assert "://" not in (FOLDER / f"{name}.lock").read_text(encoding="utf-8")
    commands = " ".join(arguments for word, arguments in dockerfile(name) if word == "RUN")
    assert f"--no-deps --require-hashes --requirement /build/{name}.lock" in commands


def test_torch_is_known_by_its_version() -> None:
    """Its builds for CPUs and for CUDA have different hashes."""
    (pin,) = locked("torch")
    (wanted,) = [line for line in project()["dependencies"] if line.startswith("torch")]
    assert Requirement(wanted).specifier.contains(pin.removeprefix("torch=="))
    listed = subprocess.run(
        [sys.executable, str(FOLDER / "requirements.py"), "--only", "torch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split() == [wanted]


def test_leaving_out_what_is_no_dependency_ends_the_build() -> None:
    result = listed_requirements("tensorflow")
    assert result.returncode != 0
    assert "no dependency of pyproject.toml: tensorflow" in result.stderr


@pytest.mark.parametrize("document", [base(), for_cpu()], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_container_has_no_more_rights_than_it_needs(document: dict[str, Any], name: str) -> None:
    service = document["services"][name]
    assert service["init"] is True
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert not {"user", "privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("document", [base(), for_cpu()], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_tagged_with_the_version_of_the_project(
    document: dict[str, Any], name: str
) -> None:
    service = document["services"][name]
    version = project()["version"]
    assert service["image"].removesuffix("-cpu") == f"orrery-{name}:{version}"
    assert service["build"]["args"]["VERSION"] == version
    assert service["build"]["dockerfile"] == f"docker/{name}.Dockerfile"
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT


def test_the_worker_has_the_gpus_and_on_a_cpu_host_asks_for_none() -> None:
    (devices,) = base()["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "utility" in image_variables("worker")["NVIDIA_DRIVER_CAPABILITIES"]  # nvidia-smi
    assert "deploy" not in for_cpu()["services"]["worker"]
    assert "deploy" not in base()["services"]["server"]


def test_the_cpu_host_changes_nothing_but_the_worker() -> None:
    gpu, cpu = base(), for_cpu()
    assert cpu["services"]["worker"]["image"] != gpu["services"]["worker"]["image"]
    del gpu["services"]["worker"], cpu["services"]["worker"]
    assert cpu == gpu


def test_tokens_come_from_files_and_never_from_the_environment() -> None:
    document = base()
    assert document["secrets"] == {
        "admin_token": {"file": "${ORRERY_SECRETS:-./secrets}/admin.token"},
        "worker_token": {"file": "${ORRERY_SECRETS:-./secrets}/worker.token"},
    }
    for name, secrets in (
        ("server", ["admin_token", "worker_token"]),
        ("worker", ["worker_token"]),
    ):
        service = document["services"][name]
        assert service["secrets"] == secrets
        named = {key: v for key, v in service["environment"].items() if "TOKEN" in key}
        assert sorted(set(named.values())) == [f"/run/secrets/{secret}" for secret in secrets]
        keys = [value for key, value in service["environment"].items() if "KEY" in key]
        assert all(value is None for value in keys)  # passed on from the caller, never written
    assert "/secrets/" in (FOLDER / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", IMAGES)
def test_every_setting_of_a_service_exists(name: str) -> None:
    environment = base()["services"][name]["environment"]
    used = {key for key in environment if key.startswith("ORRERY_")}
    assert used
    assert used <= SETTINGS[name]


def test_every_variable_that_compose_fills_in_is_explained() -> None:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    filled_in = set(re.findall(r"\$\{(\w+)", text))
    comment = text.partition("name:")[0]
    assert filled_in <= set(re.findall(r"[A-Z_]{5,}", comment))
    ours = {name for name in filled_in if name.startswith("ORRERY_")}
    assert ours - OF_THE_FILES_ALONE <= SETTINGS["worker"]


def test_server_and_worker_share_one_named_volume() -> None:
    document = base()
    assert document["volumes"].keys() == {"data"}
    for name in IMAGES:
        assert document["services"][name]["volumes"] == ["data:/data"]
        assert image_variables(name)["ORRERY_DATA"] == "/data"


def test_the_server_is_published_on_the_loopback_address_alone() -> None:
    server = base()["services"]["server"]
    port = image_variables("server")["ORRERY_PORT"]
    assert server["ports"] == [f"${{ORRERY_PUBLISH:-127.0.0.1:8080}}:{port}"]
    assert arguments_of("server", "EXPOSE") == [port]
    assert "ports" not in base()["services"]["worker"]


def test_the_worker_finds_the_server_and_waits_until_it_answers() -> None:
    worker, server = base()["services"]["worker"], base()["services"]["server"]
    port = image_variables("server")["ORRERY_PORT"]
    assert worker["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert worker["environment"]["ORRERY_URL"] == f"http://server:{port}"
    hosts = json.loads(server["environment"]["ORRERY_ALLOWED_HOSTS"])
    assert hosts == ["server", "${ORRERY_HOST_NAME:-localhost}"]


def test_a_worker_that_is_replaced_keeps_its_name() -> None:
    name = base()["services"]["worker"]["environment"]["ORRERY_WORKER_NAME"]
    assert name == "${ORRERY_WORKER_NAME:-worker-*}"  # also with --scale worker=2


def test_a_compiled_network_can_be_loaded_from_where_it_was_written() -> None:
    assert base()["services"]["worker"]["tmpfs"] == ["/tmp:exec"]
    assert image_variables("worker")["HOME"] == "/tmp"


def test_containers_have_the_time_to_end_cleanly() -> None:
    grace = {name: base()["services"][name]["stop_grace_period"] for name in IMAGES}
    seconds = {name: int(period.removesuffix("s")) for name, period in grace.items()}
    assert seconds["worker"] >= 20
    assert seconds["server"] >= 10


def compose_command() -> list[str] | None:
    """Docker Compose 2, as a plugin or as a program; its predecessor cannot read these files."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            asked = [*command, "version", "--short"]
            answer = subprocess.run(asked, capture_output=True, text=True)
            if answer.returncode == 0 and not answer.stdout.lstrip("v").startswith("1."):
                return command
    return None


@pytest.mark.skipif(compose_command() is None, reason="Docker Compose 2 is not installed")
@pytest.mark.parametrize("overrides", [[], ["compose.cpu.yaml"]], ids=["gpu", "cpu"])
def test_docker_compose_reads_the_files_as_these_tests_do(overrides: list[str]) -> None:
    command = compose_command()
    assert command is not None
    for name in ("compose.yaml", *overrides):
        command += ["--file", str(FOLDER / name)]
    result = subprocess.run(
        [*command, "config", "--format", "json"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    services = json.loads(result.stdout)["services"]
    assert services.keys() == set(IMAGES)
    assert ("deploy" in services["worker"]) is not bool(overrides)
