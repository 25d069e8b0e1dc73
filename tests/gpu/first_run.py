"""Ten minutes on a GPU, the most telling checks first: `python -m tests.gpu.first_run OUT`.

Of the project it needs `nbody` alone (torch, numpy, pydantic, jaxtyping). Every check stands on its
own: one that fails is recorded, and the next one runs. Lines of JSON go to OUT/run.jsonl, profiles
beside them; the exit code is 1 where a check failed. With `--device cpu` the same loops run without
graphs, in a minute: that the plan is sound is tested so.
"""

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbody.config import Config
from nbody.config.size import estimate
from nbody.device import why_unusable
from nbody.evaluation.score import evaluate
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise_of_many
from nbody.stepper import Stepper
from nbody.training import cuda_graph
from nbody.training.collection_on_device import DeviceCollection
from nbody.training.cuda_graph import GraphedCall
from nbody.training.generalization_on_device import DeviceLearner
from nbody.training.loops import Loops
from nbody.training.run import TrainingRun
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.unified_training import epochs
from tests.gpu.kernels import kernels_of_loops

DATA = Path(__file__).parents[2] / "data"
LEAST_LEFT_S = 15.0  # of the budget, for another check
LEFT_FREE = 400 * 2**20  # bytes of a GPU, where a run is to find too few
BASE: dict[str, Any] = {
    "num_orbits": 8,
    "steps_per_epoch": 5,
    "epochs": 3,
    "replay_steps": 24,
    "replay_batch_size": 16,
    "lr": 2.0**-5,
    "hidden_dims": [16, 16],
    "dropout": 0.0,
    "seed": 3,
    "evaluation_orbits": 0,
}
PLUMMER = {"initial_conditions": "plummer", "num_particles": 16, "num_systems": 8}
LOSSES: dict[str, dict[str, Any]] = {
    "oracle": {},
    "dropout": {"dropout": 0.2},
    "band": {"loss": "band"},
    "band_failing": {"loss": "band_failing"},
    "capped": {"max_retrain_steps": 2, "energy_threshold": 1e-7},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "64x64": {"hidden_dims": [64, 64]},
    "demo": {"hidden_dims": [128, 128], "activation": "silu"},
    "demo_float32": {"hidden_dims": [128, 128], "activation": "silu", "network_dtype": "float32"},
    "default": {"hidden_dims": [200, 1000, 1000, 200], "dropout": 0.2},
}
KINDS: dict[str, dict[str, Any]] = {
    "dimensionless": {"feature_type": "dimensionless"},
    "rich": {"feature_type": "rich", "dt_head": "softplus", "normalize_inputs": True},
    "history": {"feature_type": "dimensionless", "history_len": 2},
    "series_history": {"history_len": 2},
    "delta_mag": {"feature_type": "delta_mag", "history_len": 2, "dt_head": "softplus"},
    "period": {"stop_at_period": True, "steps_per_epoch": 40},
    "n_steps": {"n_steps": 3},
    "field": {"external_field_mass": 0.1, "external_field_position": [5.0, 0.0]},
    "lifetimes": {"reset_particle_each_epoch": False, "lifetime": 2.0},
    "adamw": {"optimizer": "adamw"},
    "three": {"initial_conditions": "figure_eight_family", "num_systems": 8},
    "thresholds": {"energy_threshold_max": 1e-2},
    "fourier": {"fourier_scale": 1.0},
    "float32": {"dtype": "float32"},
    "float32_network": {"network_dtype": "float32"},
    "tf32": {"network_dtype": "float32", "tf32": True},
    "plummer_16": {**PLUMMER, "max_retrain_steps": 8},
    "each_body": {"initial_conditions": "kozai_triple", "num_systems": 4, "max_retrain_steps": 8},
    "sgd": {"optimizer": "sgd", "lr": 1e-3},
    "resample": {"resample_each_epoch": True},
    "anomaly": {"detect_anomaly": True, "epochs": 2},
}
ONLY_ON_A_GPU: dict[str, dict[str, Any]] = {
    "wide_batch": {"num_orbits": 2048, "replay_batch_size": 16384, "steps_per_epoch": 9},
    "600_bodies": {
        "initial_conditions": "plummer",
        "num_particles": 600,
        "num_systems": 2,
        "loss": "band",
        "max_retrain_steps": 4,
        "feature_type": "dimensionless",
        "replay_steps": 12,
    },
}
NOT_CAPTURED = {"sgd", "anomaly"}


class FirstRun:
    """Where the checks write, and on what device they run."""

    def __init__(self, out: Path, device: str, budget_s: float) -> None:
        self.out, self.device, self.gpu = out, device, device.startswith("cuda")
        self.failed: list[str] = []
        self._started, self._budget_s = time.monotonic(), budget_s
        out.mkdir(parents=True, exist_ok=True)

    def say(self, check: str, **fields: Any) -> None:
        """A line of the report."""
        at = round(time.monotonic() - self._started, 1)
        line = json.dumps({"t": at, "check": check, **fields}, default=str)
        print(line, flush=True)
        with (self.out / "run.jsonl").open("a") as file:
            file.write(line + "\n")

    def expect(self, check: str, holds: bool, **fields: Any) -> None:
        """A line of the report on something that must hold."""
        if not holds:
            self.failed.append(check)
        self.say(check, ok=holds, **fields)

    def run(self, check: Callable[["FirstRun"], None]) -> None:
        """One check, whatever happens in it."""
        name = check.__name__
        if time.monotonic() - self._started > self._budget_s - LEAST_LEFT_S:
            self.failed.append(name)
            self.say(name, skipped="no time left")
            return
        with self.recorded(name):
            check(self)

    @contextlib.contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """What is raised inside is a line of the report."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the next check must run
            self.failed.append(name)
            where = traceback.format_exc().splitlines()[-8:]
            self.say(name, ok=False, error=f"{type(error).__name__}: {error}"[:600], where=where)
            with contextlib.suppress(RuntimeError):
                self.wait()
        else:
            self.say(name + " done", seconds=round(time.monotonic() - started, 1))

    def wait(self) -> None:
        """Until the device has done all."""
        if self.gpu:
            torch.cuda.synchronize()

    def start(self, **fields: Any) -> TrainingRun:
        """A run whose loops stay on the device, with a network that begins boldly."""
        run = TrainingRun.start(Config(**{**BASE, "device": self.device, **fields}))
        if not self.gpu:
            run.loops = Loops(on_device=not run.config.detect_anomaly)
        with torch.no_grad():
            last = [weight for weight in run.model.parameters() if weight.dim() == 1][-1]
            last.add_(4.0 if run.config.dt_head == "log" else 0.0)
        return run

    def time_us(self, function: Callable[[], object], calls: int) -> float:
        """Best mean time of a call, of five rounds of them [µs]."""
        for _ in range(6):
            function()
        best = float("inf")
        for _ in range(5 if self.gpu else 1):
            self.wait()
            started = time.perf_counter()
            for _ in range(calls if self.gpu else 2):
                function()
            self.wait()
            elapsed = time.perf_counter() - started
            best = min(best, 1e6 * elapsed / (calls if self.gpu else 2))
        return round(best, 1)


def rows(run: TrainingRun) -> list[dict[str, Any]]:
    """The metrics of a run's remaining epochs."""
    return [metrics.model_dump(exclude={"epoch_time"}) for metrics in epochs(run)]


def captured(run: TrainingRun) -> dict[str, bool]:
    """Which of a run's iterations are replayed as graphs."""
    collection, learner = run.loops._collection, run.loops._learner
    calls: dict[str, GraphedCall] = {}
    if collection is not None:
        calls |= {"attempt": collection.attempt, "advance": collection.advance}
    if learner is not None:
        calls |= {"learn": learner._learning, "judge": learner._judging}
    return {name: call.is_captured for name, call in calls.items()}


def loops_of(run: TrainingRun, batch: int) -> tuple[DeviceCollection, DeviceLearner, Samples]:
    """A run's iterations, and samples for those of Part 2."""
    training = TrainingSetup(run.model, run.optimizer, run.config, run.adapter, run.history_buffer)
    collection = run.loops.collection(training, run.begin_epoch(), run.config.steps_per_epoch)
    assert isinstance(collection, DeviceCollection)
    collection.descent.begin()
    features = collection.features
    index = torch.arange(batch, device=features.device) % len(features)
    ones = torch.ones(batch, dtype=features.dtype, device=features.device)
    samples = Samples(collection.states.take(index), features[index], ones)
    learner = run.loops.learner(training, samples, batch)
    assert isinstance(learner, DeviceLearner)
    learner.load(samples, index)
    learner.done()
    return collection, learner, samples


def machine(run: FirstRun) -> None:
    fields: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if run.gpu:
        major, minor = torch.cuda.get_device_capability()
        fields |= {"gpu": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
        fields["built_for"] = torch.cuda.get_arch_list()
        run.expect("usable", why_unusable(torch.device("cuda", 0)) is None)
    run.say("machine", **fields)


def graphs_give_the_bits_of_the_same_kernels_launched_one_by_one(run: FirstRun) -> None:
    for name, fields in LOSSES.items():
        found: list[tuple[list[dict[str, Any]], list[Tensor]]] = []
        warm_ups = cuda_graph.WARM_UPS
        for calls in (-1, warm_ups):  # negative: no capture
            cuda_graph.WARM_UPS = calls
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    training = run.start(**fields)
                    metrics = rows(training)
            finally:
                cuda_graph.WARM_UPS = warm_ups
            found.append((metrics, [w.detach().cpu() for w in training.model.parameters()]))
        (plain, one), (replayed, other) = found
        weights = all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        trained = sum(row["max_retrain_iterations"] for row in plain)
        run.expect(f"bits {name}", weights and plain == replayed, retrained=trained)


def replays_are_quick(run: FirstRun) -> None:
    for name, network in NETWORKS.items():
        for orbits in (1, 256, 4096) if run.gpu else (16,):
            batch = 512 if run.gpu else 16
            fields = {"steps_per_epoch": 8, "replay_batch_size": batch, "lr": 1e-12, **network}
            training = run.start(num_orbits=orbits, **fields)
            collection, learner, samples = loops_of(training, batch)
            index = torch.arange(batch, device=samples.features.device)
            times = {
                "attempt": run.time_us(collection.attempt, 100),
                "advance": run.time_us(collection.advance, 30),
                "learn": run.time_us(learner.learn, 100),
                "judge": run.time_us(learner._judging, 50),
                "load": run.time_us(lambda: learner.load(samples, index), 100),  # noqa: B023
            }
            run.say("replay_us", network=name, orbits=orbits, **times)


def kernels_of_an_iteration(run: FirstRun) -> None:
    for name in ("64x64", "default"):
        collection, learner, _ = loops_of(run.start(**NETWORKS[name]), 16)
        run.say("kernels", network=name, **kernels_of_loops(collection, learner))


def training_reaches_the_cpus_quality(run: FirstRun) -> None:
    for name, least, short in (("kepler_demo", 0.98, {}), ("plummer_16", 0.9, {"epochs": 15})):
        fields = {"device": run.device, **(short if run.gpu else {"epochs": 1, "replay_steps": 9})}
        training = TrainingRun.start(Config.from_file(DATA / f"{name}.json", fields))
        times = sorted(metrics.epoch_time for metrics in epochs(training))
        timed = {"median_s": times[len(times) // 2], "worst_s": times[-1], "epochs": len(times)}
        if run.gpu:
            scores = evaluate(Stepper(training.model, training.adapter), systems=128)["stepper"]
            good = scores["calibrated_efficiency"] >= least
            run.expect(f"quality {name}", good, **timed, **scores)
        else:
            run.say(f"quality {name}", **timed)


def every_kind_of_config_is_captured_without_a_warning(run: FirstRun) -> None:
    for name, fields in (KINDS | (ONLY_ON_A_GPU if run.gpu else {})).items():
        with run.recorded(f"config {name}"), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            training = run.start(**fields)
            last = rows(training)[-1]
            told = [str(warning.message)[:160] for warning in seen]
            graphs = captured(training)
            good = not told and (not run.gpu or name in NOT_CAPTURED or all(graphs.values()))
            rate = last["final_pass_rate"]
            run.expect(f"captured {name}", good, graphs=graphs, pass_rate=rate, warned=told[:3])
        torch.autograd.set_detect_anomaly(False)


def a_resumed_run_is_the_same_run(run: FirstRun) -> None:
    path = run.out / "resume.pt"
    for name, fields in {
        "plain": {},
        "dropout": {"dropout": 0.2},
        "history": {"history_len": 2},
        "plummer": {**PLUMMER, "max_retrain_steps": 8, "dropout": 0.1},
    }.items():
        training = run.start(**fields)
        going = epochs(training)
        next(going)
        training.save(path)
        rest = [metrics.model_dump(exclude={"epoch_time"}) for metrics in going]
        again = TrainingRun.resume(training.config, path)
        again.loops = Loops() if run.gpu else Loops(on_device=True)
        run.expect(f"resume {name}", rows(again) == rest)
    path.unlink()


def the_pass_for_many_bodies_agrees(run: FirstRun) -> None:
    """On a GPU the fused kernel beside the blocked pass; in each type, with gradients."""
    fused = pairwise_of_many(torch.device(run.device, 0) if run.gpu else torch.device("cpu"))
    run.expect("fused kernel in use", not run.gpu or fused is not blocked_pairwise)
    sizes = ((1, 513), (3, 1000), (1, 4096), (1, 16384)) if run.gpu else ((2, 70),)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        for systems, n in sizes:
            on = {"dtype": dtype, "device": run.device}
            position = torch.randn(systems, n, 3, requires_grad=True, **on)
            mass = torch.rand(systems, n, requires_grad=True, **on)

            def both(function: Callable[..., Any], x: Tensor = position, m: Tensor = mass) -> Any:
                acceleration, potential = function(x, m, 0.01)
                total = acceleration.sin().sum() + potential.sum()
                return (acceleration, potential, *torch.autograd.grad(total, (x, m)))

            first, again, expected = both(fused), both(fused), both(blocked_pairwise)
            errors = [
                float((a - b).detach().abs().max() / b.detach().abs().max())
                for a, b in zip(first, expected, strict=True)
            ]
            same = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
            times = {
                "fused_us": run.time_us(lambda: both(fused), 5),
                "blocked_us": run.time_us(lambda: both(blocked_pairwise), 5),
            }
            good = same and max(errors) < tolerance
            run.expect("fused", good, dtype=str(dtype), systems=systems, n=n, error=errors, **times)
    if run.gpu:  # more than the second axis of a launch has
        many = torch.randn(70_000, 513, 2, device=run.device, dtype=torch.float32)
        found, _ = fused(many, torch.ones_like(many[..., 0]), 0.1)
        run.expect("fused, 70,000 systems", bool(found.isfinite().all()))


def where_an_epoch_goes(run: FirstRun) -> None:
    from torch.profiler import ProfilerActivity, profile

    for name in ("kepler_demo", "plummer_16") if run.gpu else ("kepler_demo",):
        short = {} if run.gpu else {"num_orbits": 8, "replay_steps": 4}
        fields = {"device": run.device, "epochs": 4, **short}
        training = TrainingRun.start(Config.from_file(DATA / f"{name}.json", fields))
        going = epochs(training)
        next(going)
        next(going)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.gpu else [])]
        with profile(activities=activities) as profiled:
            next(going)
            run.wait()
        key = "self_cuda_time_total" if run.gpu else "self_cpu_time_total"
        table = profiled.key_averages().table(sort_by=key, row_limit=60)
        (run.out / f"profile_{name}.txt").write_text(table)
        kernels = [e for e in profiled.events() if str(e.device_type).endswith("CUDA")]
        busy = sum(event.device_time for event in kernels) / 1e3
        run.say(f"profile {name}", kernels=len(kernels), busy_ms=busy)


def memory_does_not_grow(run: FirstRun) -> None:
    cases: dict[str, dict[str, Any]] = {
        "same shapes": {},
        "minibatches of other sizes": {
            "stop_at_period": True,
            "num_orbits": 3,
            "steps_per_epoch": 60,
            "replay_batch_size": 4096,
            "resample_each_epoch": True,
        },
    }
    last = 39 if run.gpu else 4
    for name, fields in cases.items():
        training = run.start(**fields, epochs=last + 1)
        reserved: list[int] = []
        for metrics in epochs(training):
            if metrics.epoch in {last // 2, last} and run.gpu:
                reserved.append(torch.cuda.memory_reserved())
        grown = reserved[-1] - reserved[0] if reserved else 0
        run.expect(f"memory {name}", grown <= 2**21, reserved=reserved)
        del training, metrics
        gc.collect()


def memory_is_what_was_told(run: FirstRun) -> None:
    if not run.gpu:
        return
    for name, fields in {
        "demo": json.loads((DATA / "kepler_demo.json").read_text()),
        "plummer_16": json.loads((DATA / "plummer_16.json").read_text()),
        "wide_batch": {"num_orbits": 512, "steps_per_epoch": 16, "replay_batch_size": 2048},
        "4096_orbits": {"num_orbits": 4096, "steps_per_epoch": 16, "hidden_dims": [256, 256]},
    }.items():
        script = (
            "import json, sys, torch; from nbody.config import Config\n"
            "from nbody.training.run import TrainingRun\n"
            "from nbody.unified_training import epochs\n"
            "free, _ = torch.cuda.mem_get_info()\n"
            "least = free\n"
            "for _ in epochs(TrainingRun.start(Config(**json.loads(sys.argv[1])))):\n"
            "    least = min(least, torch.cuda.mem_get_info()[0])\n"
            "print(torch.cuda.max_memory_reserved(), free - least)"
        )
        short = {"epochs": 2, "replay_steps": 20, "max_retrain_steps": 5, "seed": 1}
        config = {**fields, **short, "device": run.device}
        ran = subprocess.run(
            [sys.executable, "-c", script, json.dumps(config)],
            capture_output=True,
            text=True,
            check=True,
        )
        reserved, taken = (int(word) for word in ran.stdout.split())
        told = estimate(Config(**config)).gpu_memory_bytes
        ratio = told / taken
        numbers = {"told": told, "reserved": reserved, "taken": taken, "ratio": ratio}
        run.expect(f"told {name}", 0.8 <= ratio <= 1.2, **numbers)


def compiled(run: FirstRun) -> None:
    if not run.gpu:
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        started = time.monotonic()
        training = run.start(compile=True, num_orbits=256, hidden_dims=[64, 64], steps_per_epoch=8)
        last = rows(training)[-1]
    took = time.monotonic() - started
    told = [str(warning.message)[:200] for warning in seen][:4]
    run.say("compiled", seconds=took, graphs=captured(training), last=last, warned=told)
    collection = training.loops._collection
    assert collection is not None
    times = {"attempt": run.time_us(collection.attempt, 50)}
    run.say("compiled replay_us", **times, advance=run.time_us(collection.advance, 30))


def a_lack_of_memory_is_told(run: FirstRun) -> None:
    if not run.gpu:
        return
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - LEFT_FREE, dtype=torch.uint8, device=run.device)
    try:
        rows(run.start(num_orbits=8192, hidden_dims=[4000, 4000], epochs=1))
        run.expect("out of memory", holds=False)
    except torch.cuda.OutOfMemoryError as error:
        run.expect("out of memory", holds=True, text=str(error)[:200])
    del held
    torch.cuda.empty_cache()


def a_capture_that_fails_leaves_training_whole(run: FirstRun) -> None:
    """Last: no other capture is tried on this device after it."""
    if not run.gpu:
        return
    total, values = torch.zeros(4, device=run.device), []

    def waits_when_captured() -> None:
        total.add_(1)
        if torch.cuda.is_current_stream_capturing():
            values.append(float(total[0]))

    before = torch.cuda.current_stream()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call = GraphedCall(waits_when_captured, total.device)
        for _ in range(6):
            call()
    told = [str(warning.message)[:160] for warning in seen]
    right = float(total[0]) == 6 and torch.cuda.current_stream() == before and len(told) == 1
    run.expect("failed capture", right, warned=told, calls=float(total[0]))
    torch.randperm(8, device=run.device)
    torch.nn.functional.dropout(total, 0.5)
    reserved = torch.cuda.memory_reserved()
    big = torch.empty(2**28, device=run.device)
    del big
    torch.cuda.empty_cache()
    run.expect("allocator after it", torch.cuda.memory_reserved() <= reserved + 2**20)
    run.expect("training after it", len(rows(run.start())) == BASE["epochs"])


CHECKS = (
    machine,
    graphs_give_the_bits_of_the_same_kernels_launched_one_by_one,
    replays_are_quick,
    kernels_of_an_iteration,
    training_reaches_the_cpus_quality,
    every_kind_of_config_is_captured_without_a_warning,
    a_resumed_run_is_the_same_run,
    the_pass_for_many_bodies_agrees,
    where_an_epoch_goes,
    memory_does_not_grow,
    memory_is_what_was_told,
    compiled,
    a_lack_of_memory_is_told,
    a_capture_that_fails_leaves_training_whole,
)


def main(arguments: list[str] | None = None) -> int:
    """All checks; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu.first_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for what was found")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for all checks")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # whose waiting for each other would be measured, else
    run = FirstRun(options.out, options.device, options.budget)
    for check in CHECKS:
        run.run(check)
    run.say("all", failed=run.failed)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
