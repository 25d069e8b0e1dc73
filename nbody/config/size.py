"""How large a run will be, from its Config alone: no torch needed.

The numbers here decide what the engine keeps in memory at once; it takes them from here.
"""

from dataclasses import dataclass
from itertools import pairwise

from nbody.config.config import Config
from nbody.config.input_width import OUTPUTS, input_width

# Python and torch on a CPU, before anything of the run's own size. A process that a worker forks
# needs 50 MB less, one that loads Triton (as torch's optimizers do where it is installed) 60 more.
PROCESS_BYTES = 357_000_000
COPIES_OF_WEIGHTS = {"adam": 5, "adamw": 5, "sgd": 4}  # weights, gradients, optimizer, scratch
COPIES_SAVED = {"adam": 3, "adamw": 3, "sgd": 2}  # weights and the optimizer's state
MANY_BYTES = 20e9  # of checkpoints that the user should know of before they are there
COPIES_OF_ACTIVATIONS = 4  # of every layer: products, activations, dropout, and their gradients
HEAP_BLOCK = 3 * 2**22  # bytes; the smaller a block, the more of it stays idle with the allocator
LISTED_UP_TO = 5  # particles on a CPU, whose pairs are listed; the full matrix beyond
FUSED_BEYOND = 512  # particles, for which a GPU has a kernel that keeps no pair in memory
PAIRS_AT_ONCE, PAIRS_AT_ONCE_ON_GPU = 2**16, 2**24  # in memory; on a CPU, near its cache
STEP_PER_PAIR = 5  # numbers in flight for each pair and dimension in a step
FEATURED_PAIRS, FEATURED_PAIRS_ON_GPU = 2**16, 2**22  # whose features are made at once
FEATURES_PER_PAIR, FEATURES_PER_STATE = 20, 400  # numbers in flight while features are made
ORACLE_TRIALS = 16  # steps tried at once
ORACLE_NUMBERS, ORACLE_NUMBERS_ON_GPU = 2**18, 2**26  # of the positions that are tried at once
JUDGED_AT_ONCE, JUDGED_PAIRS = 8192, 2**19  # samples, and pairs, that pass the gate at once
PRODUCTS_OF_A_THREAD = {"float64": 2**22, "float32": 2**23}  # that are worth one more thread
PAIRS_OF_A_THREAD = 2**15


@dataclass(frozen=True)
class Estimate:
    """Parameters, bytes of the training process at its peak, and of all its checkpoints."""

    parameters: int
    memory_bytes: int
    checkpoint_bytes: int


def network_inputs(config: Config) -> int:
    """Width of what the layers see: the log head takes the last column, ln t_ref, apart."""
    width = input_width(config.feature_type, config.history_len)
    return width - 1 if config.dt_head == "log" else width


def estimate(config: Config) -> Estimate:
    """Size of a run.

    Parameters are exact. Memory is that of the training process at its peak: the process itself,
    weights with their gradients and optimizer state, the recorded trajectory, and the largest of
    what the parts of an epoch need for a while.
    """
    inputs = network_inputs(config)
    embedded = config.fourier_dim if config.fourier_scale > 0 else inputs
    widths = [embedded, *config.hidden_dims, OUTPUTS]
    parameters = sum((a + 1) * b for a, b in pairwise(widths))
    if config.fourier_scale > 0:
        parameters += config.fourier_dim // 2 * inputs
    number = 8 if config.dtype == "float64" else 4
    total = COPIES_OF_WEIGHTS[config.optimizer] * parameters + _working_numbers(config, widths)
    saved = number * COPIES_SAVED[config.optimizer] * parameters
    return Estimate(parameters, PROCESS_BYTES + number * total, _checkpoints(config) * saved)


def useful_threads(config: Config) -> int:
    """CPU threads that a run is large enough for: measured, fewer are as fast."""
    widths = [network_inputs(config), *config.hidden_dims, OUTPUTS]
    batch = max(config.systems, min(config.replay_batch_size, samples_of_epoch(config)))
    products = batch * sum(a * b for a, b in pairwise(widths))
    pairs = config.systems * config.num_particles**2
    return max(1, products // PRODUCTS_OF_A_THREAD[config.network_type], pairs // PAIRS_OF_A_THREAD)


def remarks(config: Config) -> list[str]:
    """What the user should know of the size of a run; empty where all is well."""
    total = estimate(config).checkpoint_bytes
    if total < MANY_BYTES:
        return []
    remark = (
        f"its {_checkpoints(config)} checkpoints will take {total / 1e9:.0f} GB: raise "
        f"checkpoint_every ({config.checkpoint_every}), or use a smaller network (hidden_dims)"
    )
    return [remark]


def _checkpoints(config: Config) -> int:
    """How many are kept: of every so many epochs, from the first on, and of the last."""
    last = config.epochs - 1
    return 1 + last // config.checkpoint_every + (last % config.checkpoint_every > 0)


def samples_of_epoch(config: Config) -> int:
    """Samples that an epoch's trajectory has at most."""
    return config.systems * config.steps_per_epoch


def _working_numbers(config: Config, widths: list[int]) -> int:
    """Numbers in memory at the peak of an epoch, besides weights."""
    n, dim, systems = config.num_particles, config.dim, config.systems
    pairs = n * (n - 1) // 2 if n <= LISTED_UP_TO else n * n
    step = STEP_PER_PAIR * dim * (pairs if n <= FUSED_BEYOND else FUSED_BEYOND * n)
    features = FEATURES_PER_PAIR * (1 + dim) * pairs + FEATURES_PER_STATE
    samples = samples_of_epoch(config)
    width = input_width(config.feature_type, config.history_len)
    record = samples * (n * (3 * dim + 1) + width + 5)
    trained = COPIES_OF_ACTIVATIONS * sum(widths)
    states_of_oracle = max(1, ORACLE_NUMBERS // (ORACLE_TRIALS * n * dim))
    oracle = min(samples, states_of_oracle) * ORACLE_TRIALS * step
    judged = min(samples, JUDGED_AT_ONCE, max(1, JUDGED_PAIRS // n**2))
    minibatch = min(config.replay_batch_size, samples)
    batch = max(systems, minibatch)
    block = batch * max(widths) * (8 if config.dtype == "float64" else 4)
    kept = 2 - min(1.0, block / HEAP_BLOCK)
    most = max(
        record,  # the trajectory is gathered from it
        systems * (features + kept * trained + step),
        minibatch * kept * trained,
        judged * (2 * max(widths) + step),
        oracle if config.loss == "oracle" else 0,
    )
    return record + round(most)
