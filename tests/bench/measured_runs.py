"""Runs that benchmarks measure, and the process of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "data" / "kepler_demo.json"
SMALL = {"hidden_dims": [64, 64], "activation": "tanh", "dropout": 0.0}
DEVICE = {"type": "cpu"}  # --device
RUN_AND_MEASURE = """
import json, re, sys
from pathlib import Path
from nbody.config import Config
from nbody.config.size import evaluated_systems
from nbody.evaluation.score import evaluate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs
def memory(line):
    status = Path('/proc/self/status').read_text()
    return int(re.search(line + r':\\s+(\\d+)', status)[1]) * 1024
seen = {}
run = TrainingRun.start(Config(**json.loads(sys.argv[1])))
for metrics in epochs(run):
    if metrics.epoch + 1 in json.loads(sys.argv[2]):
        seen[metrics.epoch + 1] = memory('VmRSS')
if systems := evaluated_systems(run.config):
    evaluate(Stepper(run.model, run.adapter), systems=systems)
print(json.dumps({'at': seen, 'peak': memory('VmHWM')}))
"""


def measured_run(fields: dict[str, Any], at: list[int]) -> dict[str, Any]:
    """Memory [bytes] of a process that trains and scores: after some epochs, and its peak."""
    arguments = [json.dumps({"seed": 1, "device": DEVICE["type"], **fields}), json.dumps(at)]
    return json.loads(subprocess.check_output([sys.executable, "-c", RUN_AND_MEASURE, *arguments]))
