"""The state of every random generator that a run draws from."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of torch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generator_states(device: torch.device) -> dict[str, Any]:
    """The states of all generators that a run on a device draws from, as plain data.

    A run on the CPU leaves CUDA alone: to ask it would take half a gigabyte of a GPU.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
        "numpy": [str(name), torch.from_numpy(np.array(keys)), position, has_gauss, cached],
        "python": random.getstate(),
    }


def set_generator_states(states: dict[str, Any], device: torch.device) -> None:
    """Continue every generator where `generator_states` was taken, on whichever device."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and device.type == "cuda":
        # Older checkpoints hold the states of all GPUs that were visible, in their order.
        place = min(device.index or 0, len(states["cuda"]) - 1)
        torch.cuda.set_rng_state(states["cuda"][place].cpu(), device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    random.setstate(states["python"])
