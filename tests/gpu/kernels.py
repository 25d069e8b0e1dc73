"""How many kernels a function launches on a GPU, counted without one."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from nbody.training.collection_on_device import DeviceCollection
from nbody.training.generalization_on_device import DeviceLearner

# Operations that look at memory in another way, take some, or are made of the others.
WITHOUT_A_KERNEL = {
    *("alias", "as_strided", "detach", "detach_", "diagonal", "expand", "permute", "select"),
    *("slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze"),
    *("view", "_reshape_alias", "_unsafe_view", "unfold", "lift_fresh", "_local_scalar_dense"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_"),
    *("chunk", "contiguous", "expand_as", "flatten", "item", "linear", "movedim", "reshape"),
    *("resolve_conj", "resolve_neg", "result_type", "silu_", "to", "unflatten", "view_as"),
    *("is_nonzero", "narrow", "numpy_T", "matmul", "square", "dropout"),
    "scalar_tensor",  # a number of the host, which a kernel takes as an argument
}
ATEN = "aten::"
COMPILED = "cpp_fused"  # in the name of a kernel that torch's compiler made for a CPU


def kernels_of(function: Callable[[], object]) -> int:
    """Kernels of a call, backward and optimizer included, once it is warm.

    Of operations one each; of compiled functions as many as the compiler fused them into.
    """
    torch._inductor.config.cpp.enable_kernel_profile = True
    function()
    function()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        function()
    tops = [event for event in profiled.events() if event.cpu_parent is None]
    return sum(_kernels(event) for event in tops)


def kernels_of_loops(collection: DeviceCollection, learner: DeviceLearner) -> dict[str, int]:
    """Kernels of each iteration that a GPU replays."""
    iterations = {
        "attempt": collection._attempt,
        "advance": collection._advance,
        "learn": learner._learn,
        "judge": learner._judge,
    }
    return {name: kernels_of(iteration) for name, iteration in iterations.items()}


def _kernels(event: Any) -> int:
    """Of an event with what is inside it."""
    if COMPILED in event.name:
        return 1
    name = event.name.removeprefix(ATEN)
    if event.name.startswith(ATEN) and name not in WITHOUT_A_KERNEL:
        return 1
    return sum(_kernels(child) for child in event.cpu_children)
