"""Ten minutes on a GPU, the most telling checks first: `python -m tests.gpu.first_run OUT`.

Of the project it needs `nbody` alone (torch, numpy, pydantic, jaxtyping). Every check stands on its
own: one that fails is recorded, and the next one runs. Lines of JSON go to OUT/run.jsonl, profiles
beside them; the exit code is 1 where a check failed. With `--device cpu` the same loops run without
graphs, in a minute: that the plan is sound is tested so.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from nbody.device import why_unusable
from tests.gpu.first_run import correctness, memory, speed
from tests.gpu.first_run.report import FirstRun


def machine(run: FirstRun) -> None:
    fields: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if run.gpu:
        major, minor = torch.cuda.get_device_capability()
        fields |= {"gpu": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
        fields["built_for"] = torch.cuda.get_arch_list()
        run.expect("usable", why_unusable(torch.device("cuda", 0)) is None)
    run.say("machine", **fields)


CHECKS = (
    machine,
    correctness.graphs_give_the_bits_of_the_same_kernels_launched_one_by_one,
    speed.replays_are_quick,
    speed.kernels_of_an_iteration,
    correctness.training_reaches_the_cpus_quality,
    correctness.every_kind_of_config_is_captured_without_a_warning,
    correctness.a_resumed_run_is_the_same_run,
    correctness.the_pass_for_many_bodies_agrees,
    speed.where_an_epoch_goes,
    memory.memory_does_not_grow,
    memory.memory_is_what_was_told,
    speed.compiled,
    memory.a_lack_of_memory_is_told,
    correctness.a_capture_that_fails_leaves_training_whole,
)

ON_A_GPU_ALONE = {
    memory.memory_is_what_was_told,
    speed.compiled,
    memory.a_lack_of_memory_is_told,
    correctness.a_capture_that_fails_leaves_training_whole,
}


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
    if options.device == "cuda" and not torch.cuda.device_count():
        parser.error("no GPU here, or torch was built without CUDA; --device cpu runs the plan")
    torch.set_num_threads(1)  # whose waiting for each other would be measured, else
    run = FirstRun(options.out, options.device, options.budget)
    for check in CHECKS:
        run.run(check, needs_gpu=check in ON_A_GPU_ALONE)
    run.say("all", failed=run.failed)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
