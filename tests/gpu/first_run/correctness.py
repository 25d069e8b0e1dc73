"""That training on this device is right: its bits, its quality, every kind of config."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nbody.config import Config
from nbody.evaluation.score import evaluate
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise_of_many
from nbody.stepper import Stepper
from nbody.training import cuda_graph
from nbody.training.cuda_graph import GraphedCall
from nbody.training.loops import Loops
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs
from tests.gpu.first_run.configs import (
    BASE,
    DATA,
    KINDS,
    LOSSES,
    NOT_CAPTURED,
    ONLY_ON_A_GPU,
    PLUMMER,
)
from tests.gpu.first_run.report import FirstRun, captured, rows


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


def a_capture_that_fails_leaves_training_whole(run: FirstRun) -> None:
    """Last: no other capture is tried on this device after it."""
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
