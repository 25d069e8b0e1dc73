"""Where the time goes on this device: iterations, kernels, an epoch."""

import time
import warnings

import torch
from torch.profiler import ProfilerActivity, profile

from nbody.config import Config
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs
from tests.gpu.first_run.configs import DATA, NETWORKS
from tests.gpu.first_run.report import FirstRun, captured, loops_of, rows
from tests.gpu.kernels import kernels_of_loops


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


def where_an_epoch_goes(run: FirstRun) -> None:
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


def compiled(run: FirstRun) -> None:
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
