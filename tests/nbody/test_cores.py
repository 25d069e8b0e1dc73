"""How many cores a process takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nbody.config import Config
from nbody.config.size import useful_threads
from nbody.cores import BRIEFLY, FreeCores, usable_cores
from nbody.device import Threads
from nbody.watcher import Phase


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_containers_quota_is_kept(tmp_path: Path, quota: str, cores: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(file) == (cores or usable_cores(tmp_path / "none"))


@pytest.mark.skipif(sys.platform != "linux", reason="affinity masks are Linux's")
def test_a_process_on_one_core_takes_one(tmp_path: Path) -> None:
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert usable_cores(tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, mask)


DEMO_SIZE = {"num_orbits": 256, "steps_per_epoch": 16, "hidden_dims": [128, 128]}


class Machine:
    """Two cores whose times a test moves, in the format of /proc/stat."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.now, self.own = folder / "stat", 0.0, 0.0
        self.others = self.idle = 0.0
        monkeypatch.setattr("nbody.cores._cores", lambda: {0, 1})
        self.pass_by(0, others=0, own=0)

    def pass_by(self, seconds: float, *, others: float, own: float) -> None:
        """Time goes by in which others and this process use so many cores."""
        self.now += seconds
        self.others += others * seconds
        self.own += own * seconds
        self.idle += (2 - others - own) * seconds
        tick = os.sysconf("SC_CLK_TCK")
        busy, idle = int((self.others + self.own) * tick), int(self.idle * tick)
        self.file.write_text(
            f"cpu 999 9 9 9 9 9 9 0 0 0\ncpu0 {busy} 0 0 {idle} 7 0 0 0 99 99\n"
            "cpu1 0 0 0 0 0 0 0 0 0 0\ncpu2 99999 0 0 0 0 0 0 0 0 0\nintr 5\n"
        )

    def free(self) -> FreeCores:
        folder = self.file.parent
        return FreeCores(
            self.file,
            folder / "cpu.max",
            folder / "cpu.stat",
            clock=lambda: self.now,
            own=lambda: self.own,
        )


def test_cores_are_free_that_others_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    free = machine.free()
    for others, own in ((0.0, 2.0), (1.0, 0.5), (0.5, 0.0), (2.0, 0.0)):
        machine.pass_by(10, others=others, own=own)
        assert free.look() == pytest.approx(2 - others)


def test_in_a_container_its_own_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    monkeypatch.setattr("nbody.cores._cores", lambda: set(range(64)))
    (tmp_path / "cpu.max").write_text("200000 100000")  # two cores of 64

    def uses(seconds: float) -> None:
        (tmp_path / "cpu.stat").write_text(f"usage_usec {int(1e6 * seconds)}\nuser_usec 5\n")

    uses(100.0)
    free = machine.free()
    for own, another, left in ((2.0, 0.0, 2.0), (1.0, 1.0, 1.0), (0.5, 1.5, 0.5)):
        before = machine.own + 100.0 * (machine.now + 1)
        uses(before)
        free.look()
        machine.pass_by(10, others=0.0, own=own)
        uses(before + 10 * (own + another))
        assert free.look() == pytest.approx(left)


def test_a_system_that_does_not_say_has_no_answer(tmp_path: Path) -> None:
    nothing = tmp_path / "none"
    (tmp_path / "odd").write_text("cpu0 one two\n")
    for times in (nothing, tmp_path / "odd"):
        free = FreeCores(times, nothing, nothing)
        assert free.look() is None


def test_torch_gets_the_threads_that_cores_are_free_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine = Machine(tmp_path, monkeypatch)
    monkeypatch.setattr("nbody.device.time.monotonic", lambda: machine.now)
    before = torch.get_num_threads()
    try:
        threads = Threads(2, machine.free())
        assert torch.get_num_threads() == 1  # nobody has looked yet
        seen: list[int] = []
        for others in (0.1, 1.0, 2.0, 0.6, 0.0):
            machine.pass_by(2, others=others, own=0.0)
            threads.tick()
            seen.append(torch.get_num_threads())
        assert seen == [2, 1, 1, 1, 2]
        machine.pass_by(0.5, others=2.0, own=0.0)  # too soon for another look
        threads.phase(Phase.COLLECT)
        assert torch.get_num_threads() == 2
        few = Threads(1, machine.free())
        machine.pass_by(2, others=0.0, own=0.0)
        few.tick()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("number", "dynamic", "alone", "beside"),
    [
        ("2", "", 2, 1),
        ("2,4", "true", 2, 1),
        ("1", "", 1, 1),
        ("x", "", 2, 1),
        ("7", "false", 7, 7),
        ("", "false", 2, 1),
    ],
)
def test_who_sets_the_number_of_threads_has_no_more(
    number: str,
    dynamic: str,
    alone: int,
    beside: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    monkeypatch.setenv("OMP_DYNAMIC", dynamic)
    machine, before = Machine(tmp_path, monkeypatch), torch.get_num_threads()
    monkeypatch.setattr("nbody.device.time.monotonic", lambda: machine.now)
    try:
        threads, seen = Threads(3, machine.free()), list[int]()
        for others in (0.0, 2.0):
            machine.pass_by(2, others=others, own=0.0)
            threads.tick()
            seen.append(torch.get_num_threads())
        assert seen == [alone, beside]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("fields", "threads"),
    [
        ({"hidden_dims": [32, 32]}, 1),
        ({**DEMO_SIZE, "dtype": "float64"}, 2),
        ({**DEMO_SIZE, "dtype": "float32"}, 1),
        ({"num_orbits": 64, "steps_per_epoch": 8}, 171),
    ],
)
def test_small_runs_are_worth_few_threads(fields: dict[str, object], threads: int) -> None:
    assert useful_threads(Config.model_validate(fields)) == threads


def test_a_program_that_owns_its_process_lets_threads_wait_briefly() -> None:
    look = "import os, nbody; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    own = f"import sys; sys.argv[0] = '-m'; {look}"  # as `python -m nbody` finds it
    for script, expected in ((look, "None"), (own, BRIEFLY)):
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == expected
