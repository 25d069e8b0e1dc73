"""Builds the images with podman, brings the compose files up, and does what a user does with them.

    python -m tests.docker.built

Needs root, podman with runc and netavark, podman-compose and, where `python:3.11-slim-bookworm` is
not there, mmdebstrap, from which it makes a stand-in. Everything that it makes is in a temporary
folder, and gone afterwards. Prints a line for each check; exit code 1 where one fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.docker.composed import CANNOT, apart
from tests.docker.podman import BASE, Podman, make_base

TOOLS = ("podman", "runc", "mmdebstrap", "unshare", "ip")


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
    podman = Podman(folder)
    try:
        if reason := why_not(podman):
            print(f"no container can run here: {reason}")
            code = CANNOT
        else:
            build(podman)
            code = apart(folder)
        return 0 if code == CANNOT and options.where_possible else code
    finally:
        if kept is None:
            podman.works("system", "reset", "--force")
            # Where the storage mounted itself.
            subprocess.run(["umount", folder / "images" / "overlay"], check=False)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
