"""Podman with storage, networks and settings of its own, for the images that are tried."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
# Lower than what a root without CAP_SYS_RESOURCE has: podman's defaults are higher.
LIMITS = '"nofile=4096:4096", "nproc=4096:4096"'
LONG_S = 1800


class Podman:
    """Podman with storage and settings of its own, and the machine's way to packages.

    Args:
        folder: where it keeps all of that; a second one with the same folder has the same images.
    """

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
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{folder}/networks"\n'
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
