"""How many kernels a function launches on a GPU, counted without one."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# Operations that only look at memory in another way, or take some.
WITHOUT_A_KERNEL = {
    *("alias", "as_strided", "detach", "diagonal", "expand", "permute", "select", "slice"),
    *("split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view"),
    *("_reshape_alias", "_unsafe_view", "unfold", "lift_fresh", "_local_scalar_dense"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    "scalar_tensor",  # a number of the host, which the kernel takes as an argument
}


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        self.kernels += name not in WITHOUT_A_KERNEL and not name.startswith("_record_function")
        return func(*args, **(kwargs or {}))


def kernels_of(function: Callable[[], object]) -> int:
    """Operations of a call, backward and optimizer included, that take a kernel each."""
    with _Count() as count:
        function()
    return count.kernels
