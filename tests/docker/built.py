"""Builds the images with podman, brings the compose files up, and does what a user does with them.

    python -m tests.docker.built

Needs root, podman with runc, podman-compose and, where `python:3.11-slim-bookworm` is not there,
mmdebstrap, from which it makes a stand-in. Everything that it makes is in a temporary folder, and
gone afterwards. Prints a line for each check; exit code 1 where one fails.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
NO_NAMES = "Name or service not known"  # where the network's plugin for names does not work
TOOLS = ("podman", "runc", "mmdebstrap")
# Lower than what a root without CAP_SYS_RESOURCE has: podman's defaults are higher.
LIMITS = '"nofile=4096:4096", "nproc=4096:4096"'
LONG_S, PATIENCE_S = 1800, 120.0
TRAINED = {"num_orbits": 8, "steps_per_epoch": 8, "hidden_dims": [16], "evaluation_orbits": 2}

Json = dict[str, Any]


class Podman:
    """Podman with storage and settings of its own, and the machine's way to packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\n'
            f'runroot = "{folder}/run"\n'
        )
        volumes = ", ".join(f'"{path}:{path}:ro"' for path in ways_to_packages())
        (folder / "containers.conf").write_text(
            f"[containers]\nvolumes = [{volumes}]\ndefault_ulimits = [{LIMITS}]\n"
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        secrets = folder / "secrets"
        secrets.mkdir(exist_ok=True)
        for name in ("admin", "worker"):
            (secrets / f"{name}.token").write_text(f"orrery_{name}_of_the_containers_0123456789\n")
            (secrets / f"{name}.token").chmod(0o644)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ORRERY_")},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "ORRERY_SECRETS": str(secrets),
            "ORRERY_PUBLISH": self.address,
        }
        self.token = (secrets / "admin.token").read_text().strip()

    def __call__(self, *arguments: str, fails: bool = False, both: bool = False) -> str:
        """What a command of podman prints.

        Args:
            fails: whether it is to fail; then also what it says of that.
            both: what it prints as errors, too.
        """
        return self.run(["podman", *arguments], fails=fails, both=both)

    def works(self, *arguments: str) -> bool:
        """Whether a command of podman ends well."""
        try:
            self(*arguments)
        except AssertionError:
            return False
        return True

    def compose(self, *arguments: str) -> str:
        """The same of compose, with the files for hosts without GPUs."""
        files = ("-f", "docker/compose.yaml", "-f", "docker/compose.cpu.yaml")
        return self.run([sys.executable, "-m", "podman_compose", *files, *arguments])

    def run(self, command: list[str], *, fails: bool = False, both: bool = False) -> str:
        """What a command prints, in the project's root."""
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LONG_S,
            check=False,
        )
        if (ran.returncode != 0) is not fails:
            raise AssertionError(f"{' '.join(command)}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
        return ran.stdout + (ran.stderr if fails or both else "")

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers."""
        of_service = f"label=com.docker.compose.service={service}"
        return self("ps", "--all", "--quiet", "--filter", of_service).split()


def ways_to_packages() -> set[str]:
    """Files and folders of this machine by which pip and apt reach packages."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True
    ).stdout
    found = set(re.findall(r"(/\S+), exists: True", told))
    for place in re.findall(r"(?:file://)?(/\S+)", told):
        # Pages of an index in a folder name files beside that folder.
        found.add(place.removesuffix("/simple"))
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    return {path for path in found | {certificates} if Path(path).exists()}


def make_base(podman: Podman) -> None:
    """A stand-in for the images' base, where it is not there and no registry can be asked."""
    if podman.works("image", "exists", BASE):
        return
    tar = podman.folder / "base.tar"
    make = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar)]
    podman.run(make)
    podman("import", str(tar), BASE)
    tar.unlink()


def why_not(podman: Podman) -> str | None:
    """Why no container can run here, if none can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.getuid() != 0 or missing:
        return f"needs root and {', '.join(TOOLS)}; missing: {', '.join(missing) or 'root'}"
    try:
        make_base(podman)
        podman("run", "--rm", "--network", "host", BASE, "true")
    except AssertionError as error:
        return str(error)
    return None


def build(podman: Podman) -> None:
    """Both images, from the files as they are."""
    for name in ("server", "worker"):
        began = time.monotonic()
        image = "orrery-server:0.1.0" if name == "server" else "orrery-worker:0.1.0-cpu"
        dockerfile = f"docker/{name}.Dockerfile"
        options = ("--network", "host", "--format", "docker", "--pull=never")
        podman("build", *options, "--file", dockerfile, "--tag", image, ".")
        size = int(podman("image", "inspect", "--format", "{{.Size}}", image))
        seconds = time.monotonic() - began
        print(f"{name}: built in {seconds:.0f} s, {size / 1e6:.0f} MB", flush=True)


class Service:
    """The composed service, as its users see it."""

    def __init__(self, podman: Podman) -> None:
        self.podman = podman
        headers = {"Authorization": f"Bearer {podman.token}"}
        self.http = httpx.Client(
            base_url=f"http://{podman.address}", headers=headers, timeout=30, trust_env=False
        )

    def until(self, fact: Callable[[], Any], what: str) -> Any:
        """What a fact is, once it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if found := fact():
                    return found
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"it never came to be: {what}\n{self.logs()}")

    def logs(self) -> str:
        """The last lines of every container."""
        every = [*self.podman.containers("server"), *self.podman.containers("worker")]
        return "\n".join(self.podman("logs", "--tail", "30", each, both=True) for each in every)

    def submit(self, epochs: int) -> str:
        """The id of a new training."""
        body = {"config": {**TRAINED, "epochs": epochs, "checkpoint_every": 5}}
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> Json:
        """A job."""
        return self.http.get(f"/v1/jobs/{job_id}").json()

    def workers(self) -> list[Json]:
        """The workers that are there."""
        return [each for each in self.http.get("/v1/workers").json()["data"] if not each["refusal"]]


def check_isolation(service: Service) -> None:
    """No root, no capabilities, nothing to write to but /data and /tmp."""
    for name in ("server", "worker"):
        (container,) = service.podman.containers(name)
        inside = ("exec", container)
        assert service.podman(*inside, "id", "-u").strip() == "10001"
        status = service.podman(*inside, "cat", "/proc/1/status")
        for kind in ("CapEff", "CapBnd"):
            assert int(re.findall(rf"{kind}:\s*(\w+)", status)[0], 16) == 0, status
        assert "NoNewPrivs:\t1" in status
        said = service.podman(*inside, "touch", "/opt/orrery/x", fails=True)
        assert "Read-only file system" in said, said
        service.podman(*inside, "touch", "/tmp/x")


def check_commands_inside(service: Service) -> None:
    """`orrery doctor` and `orrery jobs` say the truth inside each image."""
    job_id = service.submit(1)
    service.until(lambda: service.job(job_id)["status"] == "succeeded", "a short job")
    for name in ("server", "worker"):
        (container,) = service.podman.containers(name)
        looked = json.loads(service.podman("exec", container, "orrery", "doctor", "--json"))
        assert {finding["level"] for finding in looked} == {"ok"}, looked
        # The server's own token is there; a worker may not look at jobs without one.
        token = () if name == "server" else ("--env", f"ORRERY_TOKEN={service.podman.token}")
        found = service.podman("exec", *token, container, "orrery", "jobs", "--ids").split()
        assert job_id in found, found


def check_a_job(service: Service) -> None:
    """A job trains inside, its checkpoint comes out, and the dashboard is there."""
    job_id = service.submit(6)
    job = service.until(
        lambda: (j := service.job(job_id))["status"] == "succeeded" and j, "a job succeeds"
    )
    assert job["result"]["stepper"]["efficiency"] > 0
    (attempt,) = service.http.get(f"/v1/jobs/{job_id}/attempts").json()["data"]
    assert attempt["whereabouts"]["versions"]["torch"]
    point = job["latest_checkpoint"]
    content = service.http.get(f"/v1/checkpoints/{point['id']}/content").content
    assert len(content) == point["bytes"]
    assert "modulepreload" in service.http.get("/").text


def check_scaling(service: Service) -> None:
    """`--scale worker=2` is two workers, which take jobs at the same time."""
    service.podman.compose("up", "--detach", "--no-build", "--scale", "worker=2")
    service.until(lambda: len(service.workers()) == 2, "two workers")
    names = {worker["name"] for worker in service.workers()}
    assert len(names) == 2, names
    jobs = [service.submit(2000) for _ in range(2)]
    service.until(lambda: all(service.job(j)["status"] == "running" for j in jobs), "two run")
    for job_id in jobs:
        service.http.post(f"/v1/jobs/{job_id}/cancel")
        service.until(lambda j=job_id: service.job(j)["status"] == "cancelled", "cancelled")
    service.podman.compose("up", "--detach", "--no-build", "--scale", "worker=1")


def check_restart(service: Service) -> None:
    """A stop drains within its grace; after it everything is there, and the job goes on."""
    job_id = service.submit(3000)
    service.until(lambda: service.job(job_id)["progress"]["epochs_done"] >= 8, "some epochs")
    began = time.monotonic()
    for name, grace in (("worker", 30), ("server", 15)):
        for container in service.podman.containers(name):
            service.podman("stop", "--time", str(grace), container)
    seconds = time.monotonic() - began
    print(f"stopped in {seconds:.1f} s", flush=True)
    assert seconds < 20, "it was killed, not drained"
    for name in ("server", "worker"):
        for container in service.podman.containers(name):
            code = service.podman("inspect", "--format", "{{.State.ExitCode}}", container).strip()
            # Ended by itself, or by the signal that it had cleaned up for; 137 would be killed.
            assert code in {"0", "143"}, f"{name} ended with {code}: {service.logs()}"
            service.podman("start", container)

    def second() -> Json | None:
        attempts = service.http.get(f"/v1/jobs/{job_id}/attempts").json()["data"]
        return attempts[1] if len(attempts) > 1 and attempts[1]["whereabouts"] else None

    assert service.until(second, "a second attempt")["first_epoch"] >= 8
    service.http.post(f"/v1/jobs/{job_id}/cancel")
    service.until(lambda: service.job(job_id)["status"] == "cancelled", "cancelled")


def check_health(service: Service) -> None:
    """The images' own health checks agree."""
    for name in ("server", "worker"):
        (container,) = service.podman.containers(name)
        service.until(lambda c=container: service.podman.works("healthcheck", "run", c), name)


CHECKS = (
    check_health,
    check_isolation,
    check_a_job,
    check_commands_inside,
    check_scaling,
    check_restart,
)


def take_away(podman: Podman) -> None:
    """Containers that compose forgets, such as those of a scale that was larger, and their data."""
    for container in (*podman.containers("worker"), *podman.containers("server")):
        podman.works("rm", "--force", container)
    podman.works("volume", "rm", "--force", "orrery_data")


@contextmanager
def composed(podman: Podman) -> Iterator[Service]:
    """The service, up; down afterwards, with its data."""
    take_away(podman)  # of a run that was killed
    podman.compose("up", "--detach", "--no-build")
    service = Service(podman)
    try:
        service.until(lambda: service.http.get("/healthz").is_success, "the server answers")
        service.until(service.workers, "a worker registers")
        yield service
    finally:
        podman.compose("down", "--volumes")
        take_away(podman)


def main() -> int:
    """Build, bring up, check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="keep the images in this folder, and build on them next time"
    )
    parser.add_argument(
        "--where-possible", action="store_true", help="end well where no container can run"
    )
    options = parser.parse_args()
    kept: Path | None = options.folder
    folder = kept or Path(tempfile.mkdtemp(prefix="orrery-containers-"))
    folder.mkdir(exist_ok=True)
    failed = 0
    podman = Podman(folder)
    try:
        if reason := why_not(podman):
            print(f"no container can run here: {reason}")
            return 0 if options.where_possible else 1
        build(podman)
        try:
            with composed(podman) as service:
                for check in CHECKS:
                    began = time.monotonic()
                    try:
                        check(service)
                    except AssertionError as error:
                        failed += 1
                        print(f"FAILED {check.__name__}: {error}", flush=True)
                    else:
                        about = (check.__doc__ or "").splitlines()[0]
                        print(f"ok ({time.monotonic() - began:.0f} s): {about}", flush=True)
        except AssertionError as error:
            if not (options.where_possible and NO_NAMES in str(error)):
                raise
            print(f"networks of containers know no services' names here:\n{error}")
            return 0
    finally:
        if kept is None:
            podman.works("system", "reset", "--force")
            # Where the storage mounted itself.
            subprocess.run(["umount", folder / "images" / "overlay"], check=False)
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"checks": len(CHECKS), "failed": failed}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
