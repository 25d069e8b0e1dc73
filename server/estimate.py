"""How large a run will be, from its Config alone: no torch needed."""

from dataclasses import dataclass
from itertools import pairwise

from nbody.config import Config
from nbody.input_width import OUTPUTS, input_width

COPIES_OF_WEIGHTS = {"adam": 4, "adamw": 4, "sgd": 3}  # weights, gradients, optimizer state
PAIR_TENSORS = 6  # of N × N × D alive at once in a step
ORACLE_TRIALS = 16
ORACLE_ELEMENTS = 2**19  # of pairs that the oracle has in flight at once


@dataclass(frozen=True)
class Estimate:
    """Parameters, and bytes of weights, optimizer, trajectory and activations."""

    parameters: int
    memory_bytes: int


def network_inputs(config: Config) -> int:
    """Width of what the layers see: the log head takes the last column, ln t_ref, apart."""
    width = input_width(config.feature_type, config.history_len)
    return width - 1 if config.dt_head == "log" else width


def estimate(config: Config) -> Estimate:
    """Size of a run.

    Parameters are exact. Memory counts weights with their gradients and optimizer state, the
    recorded trajectory, one minibatch's activations, and the pairwise tensors of one step.
    """
    inputs = network_inputs(config)
    embedded = config.fourier_dim if config.fourier_scale > 0 else inputs
    widths = [embedded, *config.hidden_dims, OUTPUTS]
    parameters = sum((a + 1) * b for a, b in pairwise(widths))
    if config.fourier_scale > 0:
        parameters += config.fourier_dim // 2 * inputs
    number = 8 if config.dtype == "float64" else 4
    particles = config.num_particles
    samples = config.systems * config.steps_per_epoch
    batch = max(min(config.replay_batch_size, samples), config.systems)
    sample = 3 * particles * config.dim + particles + inputs + 8
    activations = 3 * batch * sum(widths)
    pairs = (
        PAIR_TENSORS * max(batch, ORACLE_TRIALS * min(samples, 4096)) * particles**2 * config.dim
    )
    pairs = min(pairs, PAIR_TENSORS * max(ORACLE_ELEMENTS, batch * particles**2 * config.dim))
    weights = parameters * COPIES_OF_WEIGHTS[config.optimizer]
    total = weights + 2 * samples * sample + activations + pairs
    return Estimate(parameters, number * total)
