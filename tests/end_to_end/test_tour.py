"""The README's ten tasks of a day, line by line, with a real service that is restarted at night."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Running, running

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NIGHT = "# --- the next day\n"


def tour() -> tuple[str, str]:
    """The lines of the two days."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [found for found in blocks if NIGHT in found]
    first, second = block.split(NIGHT)
    return first, second


def run(lines: str, service: Running, folder: Path) -> str:
    """What the lines print; every one of them must succeed."""
    commands = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "ORRERY_URL": service.client.url,
        "ORRERY_DATA": "data",
    }
    shell = ["bash", "-euo", "pipefail", "-c", lines]
    done = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_ten_tasks(tmp_path: Path) -> None:
    first, second = tour()
    numbers = [int(n) for n in re.findall(r"^# (\d+)\.", first + second, re.MULTILINE)]
    assert numbers == list(range(1, 11))
    data = tmp_path / "data"
    data.mkdir()
    (data / "kepler_demo.json").write_bytes((ROOT / "data" / "kepler_demo.json").read_bytes())
    with running(data) as service:
        printed = run(first, service, tmp_path)
        assert "parameters, about" in printed
        assert "3 of 3 trials" in printed
        assert "calibrated to V" in printed
        assert (tmp_path / "orbit" / "simulation.npz").stat().st_size > 1000
        assert len(list((tmp_path / "best").glob("*.pt"))) >= 2
        paused = service.client.jobs(status="paused")["data"]
        assert len(paused) == 1
    with running(data) as service:
        printed = run(second, service, tmp_path)
        assert 'orrery_jobs{status="succeeded"}' in printed
        assert "job.pause" in printed
        assert (tmp_path / "backup.db").stat().st_size > 10_000
        left = {job["id"] for job in service.client.jobs(limit=1000)["data"]}
        assert paused[0]["id"] not in left
        assert not list(data.glob(f"*/{paused[0]['id']}"))
        assert service.client.jobs(name="orbit")["data"][0]["status"] == "succeeded"
