"""The GPU's kernel for many particles, run by Triton's interpreter where there is no GPU."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
# Triton chooses between compiler and interpreter when a kernel is defined: a process of its own.
COMPARISON = """
import itertools, torch
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.fused import fused_pairwise

torch.manual_seed(1)
for systems, n, dim, softening in itertools.product((1, 3), (5, 70), (2, 3), (0.0, 0.1)):
    x = torch.randn(systems, n, dim, dtype=torch.float64, requires_grad=True)
    m = torch.rand(systems, n, dtype=torch.float64, requires_grad=True)
    weights, shares = torch.randn_like(x), torch.rand(systems, dtype=torch.float64)
    found = []
    for function in (fused_pairwise, blocked_pairwise):
        acceleration, potential = function(x, m, softening)
        total = (acceleration * weights).sum() + (potential * shares).sum()
        found.append((acceleration, potential, *torch.autograd.grad(total, (x, m))))
    for fused, blocked in zip(*found):
        torch.testing.assert_close(fused, blocked, rtol=1e-9, atol=1e-9)
x = torch.zeros(4, 2, dtype=torch.float64)  # all in one place: finite, as in the other passes
acceleration, potential = fused_pairwise(x, torch.ones(4, dtype=torch.float64), 0.0)
assert acceleration.abs().max() == 0 and potential.isfinite()
single = torch.randn(9, 3)
assert fused_pairwise(single, torch.ones(9), 0.1)[0].dtype == torch.float32
lost = torch.randn(2, 70, 3, dtype=torch.float64)
lost[1, 5] = torch.nan  # and a system beside it is none the worse
acceleration, potential = fused_pairwise(lost, torch.ones(2, 70, dtype=torch.float64), 0.0)
assert acceleration[1].isnan().all() and potential[1].isnan()
assert acceleration[0].isfinite().all() and potential[0].isfinite()
print("agrees")
"""


def test_as_many_systems_go_in_as_memory_holds() -> None:
    """A GPU takes 2³¹ - 1 programs along the first axis of a launch, 65,535 along the second."""
    from nbody.gravity.fused import _grid

    systems, rows = _grid(torch.empty(1, device="meta").expand(200_000, 600))
    assert systems == 200_000
    assert rows < 65_536


@pytest.mark.slow
def test_the_kernel_gives_forces_and_gradients_of_the_blocked_pass() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", COMPARISON],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.stdout == "agrees\n", ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90], ids=["A100", "H100"])
@pytest.mark.parametrize("name", ["_forces", "_gradients"])
def test_a_program_keeps_its_numbers_in_registers_and_a_nan_a_nan(
    name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for a GPU that is not there; NVIDIA's tool says what went to memory instead."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from nbody.gravity import fused

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel: Any = getattr(fused, name)
    constants = {"dim": 3, "ROWS": fused.ROWS, "COLUMNS": fused.COLUMNS}
    names = kernel.arg_names
    types = dict.fromkeys(names, "*fp64") | dict.fromkeys(constants, "constexpr") | {"n": "i32"}
    values = {(names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(
        ASTSource(kernel, types, values), GPUTarget("cuda", capability, 32), fused.LAUNCH
    )
    largest = re.findall(r"arith\.max\w+", compiled.asm["ttir"])  # maxnumf drops a NaN
    assert set(largest) == {"arith.maximumf"}
    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    used = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True)
    (spilled,) = re.findall(r"STACK:(\d+)", used.stdout)
    assert int(spilled) <= 80  # bytes; with four warps 100 and 1100
