"""That memory is what was told, does not grow, and that a lack of it is told."""

import gc
import json
import subprocess
import sys
from typing import Any

import torch

from nbody.config import Config
from nbody.config.size import estimate
from nbody.unified_training import epochs
from tests.gpu.first_run.configs import DATA
from tests.gpu.first_run.report import FirstRun, rows

LEFT_FREE = 400 * 2**20  # bytes of a GPU, where a run is to find too few


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


def a_lack_of_memory_is_told(run: FirstRun) -> None:
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - LEFT_FREE, dtype=torch.uint8, device=run.device)
    try:
        rows(run.start(num_orbits=8192, hidden_dims=[4000, 4000], epochs=1))
        run.expect("out of memory", holds=False)
    except torch.cuda.OutOfMemoryError as error:
        run.expect("out of memory", holds=True, text=str(error)[:200])
    del held
    torch.cuda.empty_cache()
