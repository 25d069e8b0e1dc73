"""A GPU machine may have torch and little else: what is run there imports no server."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_THE_SERVER = ("fastapi", "sqlmodel", "sqlalchemy", "httpx", "uvicorn", "server", "worker")


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [ROOT / "tests" / "bench" / "engine.py", "tests.gpu.first_run.__main__"], ids=str
)
def test_benchmarks_and_the_first_run_need_no_server(program: Path | str) -> None:
    run = f"runpy.run_path({str(program)!r})" if isinstance(program, Path) else f"import {program}"
    script = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({OF_THE_SERVER!r}))\n"  # None: not to be imported
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'bench')!r}]\n"
        f"{run}\n"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
