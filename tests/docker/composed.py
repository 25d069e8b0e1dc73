"""The composed service, and what a user does with it, in namespaces that end with this process.

Podman keeps its networks, and the process that answers for names in them, in files of the whole
host: what a killed run leaves there is taken for what is. So all of it happens where nothing is
before, and nothing after: mounts, network and processes of its own.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.docker.podman import BASE, ROOT, Podman

NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# The shell stays, as the first process: it takes leave of those whose parents have ended.
ENTER = """
for place in /run/containers /run/netns; do
  mkdir -p "$place" && mount -t tmpfs none "$place" || exit
done
ip link set lo up &&
"$0" -m tests.docker.composed "$1"
exit $?
"""
CANNOT, PATIENCE_S = 3, 120.0
TRAINED = {"num_orbits": 8, "steps_per_epoch": 8, "hidden_dims": [16], "evaluation_orbits": 2}

Json = dict[str, Any]


def apart(folder: Path) -> int:
    """Runs this module in namespaces of its own.

    Args:
        folder: podman's, with the built images.

    Returns:
        Its exit code; CANNOT where no network of containers works.
    """
    return subprocess.run(
        [*NAMESPACES, "bash", "-c", ENTER, sys.executable, str(folder)], cwd=ROOT, check=False
    ).returncode


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


@contextmanager
def composed(podman: Podman) -> Iterator[Service]:
    """The service, up; down afterwards."""
    podman.compose("up", "--detach", "--no-build")
    service = Service(podman)
    try:
        service.until(lambda: service.http.get("/healthz").is_success, "the server answers")
        service.until(service.workers, "a worker registers")
        yield service
    finally:
        podman.compose("down", "--volumes")
        clear(podman)  # compose forgets the workers of a scale that was larger


def clear(podman: Podman) -> None:
    """Takes away every container, with its data and networks: all of the store is ours."""
    for container in podman("ps", "--all", "--quiet").split():
        # One may be gone already, with another that it depended on.
        podman.works("rm", "--force", "--depend", "--time", "0", container)
    podman("volume", "rm", "--all", "--force")
    podman("network", "prune", "--force")


def names_work(podman: Podman) -> bool:
    """Whether a container finds another one by its name, on a network of nothing else."""
    there = ("--rm", "--network", "probe")
    found = (
        podman.works("network", "create", "probe")
        and podman.works("run", *there, "--detach", "--name", "asked", BASE, "sleep", "60")
        and podman.works("run", *there, BASE, "getent", "hosts", "asked")
    )
    clear(podman)
    return found


def passes(check: Callable[[Service], None], service: Service) -> bool:
    """Whether a check passes, which is printed."""
    began = time.monotonic()
    try:
        check(service)
    except AssertionError as error:
        print(f"FAILED {check.__name__}: {error}", flush=True)
        return False
    about = (check.__doc__ or "").splitlines()[0]
    print(f"ok ({time.monotonic() - began:.0f} s): {about}", flush=True)
    return True


def main() -> int:
    """Bring up, check; returns the exit code."""
    podman = Podman(Path(sys.argv[1]))
    clear(podman)  # what an earlier run with the same images left when it was killed
    if not names_work(podman):
        print("no container finds another one by its name here")
        return CANNOT
    with composed(podman) as service:
        failed = sum(not passes(check, service) for check in CHECKS)
    print(json.dumps({"checks": len(CHECKS), "failed": failed}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
