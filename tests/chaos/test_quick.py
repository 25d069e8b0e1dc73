"""A quick round of every proof, and its control: the harness is seen to find what it looks for."""

import shutil

import pytest

from tests.chaos.__main__ import PROOFS, control_of, count

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # forks with threads
]


NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
HERE = [pytest.param(name, marks=NEEDS_STRACE) if name == "power_cuts" else name for name in PROOFS]


@pytest.mark.parametrize("name", HERE)
def test_no_promise_is_broken(name: str) -> None:
    proof = PROOFS[name]
    assert count(proof, 1, proof.quick_rounds) == 0


@pytest.mark.parametrize("name", HERE)
def test_without_the_protection_the_promise_is_seen_to_break(name: str) -> None:
    assert control_of(PROOFS[name], 1) > 0
