"""The engine's speed as ratios: `python tests/bench/engine.py [--out FILE] [--only NAME …]`, and
with `--device cuda` on a GPU.

Both sides of a ratio run side by side, in turns, on the same threads; each is the best of several
rounds. The answer is JSON: machine, and for each benchmark its commit and
ratios.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from measured_runs import DEMO, DEVICE, SMALL, measured_run
from torch import Tensor, nn

from nbody.config import Config
from nbody.cores import usable_cores
from nbody.evaluation.held_out import HeldOut, held_out_states, predicted_steps
from nbody.evaluation.score import score
from nbody.generalization_training import generalize_on_trajectory
from nbody.gravity.force import pairwise
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter, dt_from_features
from nbody.stepper import Stepper
from nbody.training.loops import Loops
from nbody.training.losses import band_loss, pinball_loss
from nbody.training.run import TrainingRun, build_optimizer
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.trajectory_collection import collect_trajectory
from nbody.unified_training import epochs
from nbody.watcher import NoWatcher

ROUNDS = 5


def seconds(*sides: Callable[[], object]) -> list[float]:
    """Best wall time of each side [s], the sides taking turns."""
    best = [float("inf")] * len(sides)
    for side in sides:
        side()  # warm up
    for _ in range(ROUNDS):
        for k, side in enumerate(sides):
            started = time.perf_counter()
            side()
            if DEVICE["type"] == "cuda":
                torch.cuda.synchronize()
            best[k] = min(best[k], time.perf_counter() - started)
    return best


def setting(**fields: Any) -> tuple[Config, nn.Module, torch.optim.Optimizer, ModelAdapter, Any]:
    """A config with the model, optimizer, adapter and particle that it asks for."""
    config = Config(seed=1, device=DEVICE["type"], **fields)
    torch.manual_seed(1)
    adapter, particle = ModelAdapter(config), initial_particle(config, seed=1)
    model = build_model(config, adapter.input_dim_from_state(particle))
    model.to(adapter.device, adapter.dtype)
    return config, model, build_optimizer(config, model), adapter, particle


def bare_iteration(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> None:
    """Forward, backward and optimizer step of the network alone."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    model(batch)[:, 0].mean().backward()
    optimizer.step()


def part2_beside_bare(**network: Any) -> dict[str, float]:
    """One iteration of Part 2, B = 512, beside the bare network's."""
    iterations = 40
    config, model, optimizer, adapter, particle = setting(
        num_orbits=256,
        steps_per_epoch=8,
        replay_steps=iterations,
        replay_batch_size=512,
        min_efficiency=1.0,
        lr=1e-6,
        **network,
    )
    trajectory, _ = collect_trajectory(model, particle, optimizer, config, adapter)
    batch = trajectory.features[:512].clone()
    # The oracle is asked once for a trajectory, before the iterations: it is timed apart.
    none = config.model_copy(update={"replay_steps": 0})
    loops = Loops(), Loops()
    ours, before, bare = seconds(
        lambda: generalize_on_trajectory(
            model, trajectory, optimizer, config, adapter, loops=loops[0]
        ),
        lambda: generalize_on_trajectory(
            model, trajectory, optimizer, none, adapter, loops=loops[1]
        ),
        lambda: [bare_iteration(model, optimizer, batch) for _ in range(iterations)],
    )
    ours -= before
    return {
        "iteration_ms": 1e3 * ours / iterations,
        "bare_ms": 1e3 * bare / iterations,
        "oracle_and_verdict_ms_per_trajectory": 1e3 * before,
        "ratio": ours / bare,
    }


def part2_sample_by_sample(loss: str, *, features_at_hand: bool) -> dict[str, float]:
    """One iteration of Part 2, B = 512, 64×64, beside a loop over the samples.

    Args:
        features_at_hand: whether the loop finds each sample's features ready, as our iteration
            does, or makes them from its state, as a loop over recorded states must.
    """
    iterations = 20
    config, model, optimizer, adapter, particle = setting(
        num_orbits=64,
        steps_per_epoch=8,
        replay_steps=iterations,
        replay_batch_size=512,
        min_efficiency=1.0,
        loss=loss,
        E_lower=1e-30 if loss == "oracle" else 1e-6,
        lr=1e-6,
        **SMALL,
    )
    trajectory, _ = collect_trajectory(model, particle, optimizer, config, adapter)
    samples = Samples.of(trajectory.states, trajectory.features, config)
    led = trajectory.last_dt[:1]
    none = config.model_copy(update={"replay_steps": 0})
    loops = Loops(), Loops()

    def loop() -> None:
        optimizer.zero_grad(set_to_none=True)
        for k in range(512):
            one = samples.take(torch.tensor([k], device=DEVICE["type"]))
            features = one.features if features_at_hand else adapter.features_of(one.states, led)
            dt = dt_from_features(model, features)
            if one.dt_star is not None:
                value = pinball_loss(dt, one.dt_star, config.oracle_quantile)
            else:
                error = one.states.step(dt).energy_error
                value = band_loss(error, config.E_lower, config.E_upper)
            (value.sum() / 512).backward()
        optimizer.step()

    ours, before, looped = seconds(
        lambda: generalize_on_trajectory(
            model, trajectory, optimizer, config, adapter, loops=loops[0]
        ),
        lambda: generalize_on_trajectory(
            model, trajectory, optimizer, none, adapter, loops=loops[1]
        ),
        loop,
    )
    ours = (ours - before) / iterations
    return {"iteration_ms": 1e3 * ours, "loop_ms": 1e3 * looped, "speedup": looped / ours}


def part1_retrain() -> dict[str, float]:
    """One rejected attempt with its retraining, one orbit, default network, beside the bare one.

    What a state costs once (features, oracle, acceptance) is timed apart.
    """
    few, many = 10, 50
    config, model, optimizer, adapter, particle = setting(num_orbits=1, lr=1e-12, weight_decay=0.0)
    with torch.no_grad():
        list(model.parameters())[-1].fill_(3.0)  # steps that always fail
    batch = adapter.build_feature_tensor(particle)

    capped = {n: config.model_copy(update={"max_retrain_steps": n}) for n in (few, many)}
    loops = {n: Loops() for n in capped}

    def collect(attempts: int) -> None:
        training = TrainingSetup(model, optimizer, capped[attempts], adapter)
        collection = loops[attempts].collection(training, particle, 1)
        collection.run(NoWatcher(), 10**9)
        assert collection.optimizer_steps == attempts

    def bare() -> None:
        for _ in range(many - few):
            bare_iteration(model, optimizer, batch)

    longer, shorter, alone = seconds(lambda: collect(many), lambda: collect(few), bare)
    attempt, bare_s = (longer - shorter) / (many - few), alone / (many - few)
    return {
        "attempt_ms": 1e3 * attempt,
        "bare_ms": 1e3 * bare_s,
        "once_per_state_ms": 1e3 * (shorter - few * attempt),
        "ratio": attempt / bare_s,
    }


def accepted_samples() -> dict[str, float]:
    """Accepted samples per second, 4096 orbits beside one; 64×64, every step passes."""
    rates: list[float] = []
    sides: list[Callable[[], object]] = []
    counts: list[int] = []
    for orbits, steps in ((4096, 8), (1, 64)):
        config, model, optimizer, adapter, particle = setting(
            num_orbits=orbits, steps_per_epoch=steps, **SMALL
        )

        def collect(
            parts: Any = (model, particle, optimizer, config, adapter),
            loops: Loops = Loops(),  # noqa: B008 - of this side
        ) -> object:
            return collect_trajectory(*parts, loops=loops)

        sides.append(collect)
        counts.append(orbits * steps)
    rates = [count / time_s for count, time_s in zip(counts, seconds(*sides), strict=True)]
    return {"per_s_4096": rates[0], "per_s_1": rates[1], "ratio": rates[0] / rates[1]}


def broadcast(position: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """The pairwise pass in its textbook form."""
    separation = position.unsqueeze(0) - position.unsqueeze(1)
    eye = torch.eye(len(position), dtype=position.dtype, device=position.device)
    inverse = (separation.square().sum(-1) + 1e-4 + eye).rsqrt() * (1 - eye)
    return torch.einsum("ij,ijd->id", inverse**3 * mass, separation), -0.5 * mass @ inverse @ mass


def pairwise_pass() -> dict[str, float]:
    """Force and potential with their gradient, N = 4096, beside the broadcast form."""
    on = {"dtype": torch.float64, "device": DEVICE["type"]}
    position = torch.randn(4096, 3, requires_grad=True, **on)
    mass = torch.rand(4096, **on)

    def run(function: Callable[[Tensor, Tensor], Any]) -> None:
        acceleration, potential = function(position, mass)
        (acceleration.sum() + potential).backward()

    ours, textbook = seconds(lambda: run(lambda x, m: pairwise(x, m, 0.01)), lambda: run(broadcast))
    return {"pass_ms": 1e3 * ours, "broadcast_ms": 1e3 * textbook, "speedup": textbook / ours}


def pairwise_memory() -> dict[str, float]:
    """Peak memory of a process that makes one pass with its gradient [MB]; 600 is the idle one."""
    script = (
        "import re, sys, torch\n"
        "from pathlib import Path\n"
        "from nbody.gravity import pairwise\n"
        "status = lambda: Path('/proc/self/status').read_text()\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status())[1]) / 1024\n"
        "def run(n):\n"
        "    x = torch.randn(n, 3, dtype=torch.float64, requires_grad=True)\n"
        "    a, u = pairwise(x, torch.ones(n, dtype=torch.float64), 0.01)\n"
        "    (a.sum() + u).backward()\n"
        "run(int(sys.argv[1])); print(peak())\n"
    )
    return {
        f"N_{n}_mb": float(subprocess.check_output([sys.executable, "-c", script, str(n)]))
        for n in (600, 4096, 16384)
    }


def memory_over_epochs() -> dict[str, float]:
    """Memory of a run after 10,000 epochs beside that after 1000 [MB]."""
    fields = {"num_orbits": 4, "steps_per_epoch": 4, "replay_steps": 4, "epochs": 10_000}
    fields |= {"resample_each_epoch": True, "max_retrain_steps": 4, **SMALL}
    at = measured_run(fields, [1000, 10_000])["at"]
    early, late = at["1000"] / 1e6, at["10000"] / 1e6
    return {"mb_1000": early, "mb_10000": late, "ratio": late / early}


def beside_busy_processes() -> dict[str, float]:
    """Four epochs of the demo beside one busy process a core, and alone [s]."""
    command = [sys.executable, "-P", "-m", "nbody", str(DEMO), "--json"]
    command += ["--set", "epochs=4", "--set", "evaluation_orbits=0"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    best = {0: float("inf"), usable_cores(): float("inf")}
    for _ in range(ROUNDS):
        for others in best:
            busy = [
                subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)
            ]
            try:
                with tempfile.TemporaryDirectory() as folder:
                    output = subprocess.check_output(
                        [*command, "--data", folder],
                        env=environment,
                        text=True,
                        stderr=subprocess.DEVNULL,
                    )
            finally:
                for process in busy:
                    process.kill()
            spent = sum(json.loads(line)["epoch_time"] for line in output.splitlines())
            best[others] = min(best[others], spent)
    alone, beside = best.values()
    return {"alone_s": alone, "beside_s": beside, "ratio": beside / alone}


def kernels_of_iterations() -> dict[str, float]:
    """Kernels of each iteration that a GPU replays, plain and compiled, counted on a CPU."""
    sys.path.insert(0, str(DEMO.parents[1]))
    names = ("first_run.configs", "first_run.report", "kernels")
    configs, plan, kernels = (import_module(f"tests.gpu.{name}") for name in names)
    counted: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = plan.FirstRun(Path(folder), "cpu", budget_s=float("inf"))
        for name in ("64x64", "default"):
            for kind, compiled in (("", False), ("_compiled", True)):
                loops = plan.loops_of(run.start(compile=compiled, **configs.NETWORKS[name]), 16)
                found = kernels.kernels_of_loops(*loops[:2])
                counted |= {f"{name}_{part}{kind}": n for part, n in found.items()}
    return counted


def in_a_worker(name: str) -> dict[str, float]:
    """A benchmark that needs the server: its packages are imported where it is asked for."""
    return getattr(import_module("engine_in_a_worker"), name)()


def time_to_efficiency() -> dict[str, float]:
    """Training time of the demo until its calibrated efficiency is 0.9 on held-out orbits [s]."""
    run = TrainingRun.start(Config.from_file(DEMO, {"device": DEVICE["type"]}))
    held_out = held_out_states(run.config, seed=77, systems=256)
    spent = 0.0

    def network(part: HeldOut) -> Tensor:
        return predicted_steps(Stepper(run.model, run.adapter), part)

    for metrics in epochs(run):
        spent += metrics.epoch_time
        efficiency = score(network, held_out).calibrated_efficiency
        run.model.train()
        if efficiency >= 0.9:
            return {"seconds": spent, "epochs": metrics.epoch + 1, "efficiency": efficiency}
    return {"seconds": float("inf"), "epochs": run.next_epoch, "efficiency": 0.0}


BENCHMARKS: dict[str, Callable[[], dict[str, float]]] = {
    "part2_default_network": part2_beside_bare,
    "part2_64x64": lambda: part2_beside_bare(**SMALL),
    "part2_sample_by_sample": lambda: part2_sample_by_sample("oracle", features_at_hand=False),
    "part2_sample_by_sample_oracle": lambda: part2_sample_by_sample(
        "oracle", features_at_hand=True
    ),
    "part2_sample_by_sample_band": lambda: part2_sample_by_sample("band", features_at_hand=True),
    "part1_retrain_attempt": part1_retrain,
    "accepted_samples": accepted_samples,
    "pairwise_4096": pairwise_pass,
    "pairwise_memory": pairwise_memory,
    "kernels": kernels_of_iterations,
    "predicted_memory": lambda: in_a_worker("predicted_memory"),
    "memory_over_epochs": memory_over_epochs,
    "through_the_server": lambda: in_a_worker("through_the_server"),
    "beside_busy_processes": beside_busy_processes,
    "time_to_efficiency_0.9": time_to_efficiency,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="put the results in this JSON file, too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    options = parser.parse_args()
    DEVICE["type"] = options.device
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    report: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if options.device == "cuda" else None,
        "results": {},
    }
    if options.out and options.out.exists():  # of the benchmarks that are not run again
        report["results"] = json.loads(options.out.read_text())["results"]
    for name in options.only:
        report["results"][name] = {"commit": commit.stdout.strip(), **BENCHMARKS[name]()}
        print(name, json.dumps(report["results"][name]), file=sys.stderr, flush=True)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
