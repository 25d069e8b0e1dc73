"""How large a run will be, from its Config alone: no torch needed.

The numbers here decide what the engine keeps in memory at once; it takes them from here.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from nbody.config.config import Config
from nbody.config.input_width import OUTPUTS, input_width
from nbody.config.stepping_rules import METHODS
from nbody.config.systems import SYSTEMS

# Python and torch on a CPU, before anything of the run's own size: between what a process needs
# that a worker forks, and one of its own (120 MB more: torch's compiler, and Triton, for itself).
PROCESS_BYTES = 342_000_000
# A CUDA context with torch's kernels, and the workspaces of its products on two streams: as NVIDIA
# and torch say, not measured here.
GPU_PROCESS_BYTES = 560_000_000
COPIES_OF_WEIGHTS = {"adam": 5, "adamw": 5, "sgd": 4}  # weights, gradients, optimizer, scratch
COPIES_SAVED = {"adam": 3, "adamw": 3, "sgd": 2}  # weights and the optimizer's state
BYTES = {"float64": 8, "float32": 4}
MANY_BYTES = 20e9  # of checkpoints that the user should know of before they are there
COPIES_OF_ACTIVATIONS = 4  # of every layer: products, activations, dropout, and their gradients
HEAP_BLOCK = 3 * 2**22  # bytes; the smaller a block, the more of it stays idle with the allocator
LISTED_UP_TO = 5  # particles on a CPU, whose pairs are listed; the full matrix beyond
FUSED_BEYOND = 512  # particles, for which a GPU has a kernel that keeps no pair in memory
PAIRS_AT_ONCE, PAIRS_AT_ONCE_ON_GPU = 2**16, 2**22  # in memory; on a CPU, near its cache
# Numbers in flight in a step: for each coordinate, for each listed pair.
STEP_PER_NUMBER, STEP_PER_LISTED = 7, 12
GPU_STEP_PER_NUMBER, GPU_STEP_PER_LISTED = 5, 10  # counted, where nothing stays with an allocator
EACH_PER_NUMBER = 14  # for each coordinate, where each body's orbit is looked at
BLOCK_PER_PAIR, BACKWARD_PER_PAIR = 5, 9  # for each pair of a block, without and with gradients
FEATURES_PER_PAIR, FEATURES_PER_SERIES = 60, 400  # while features are made
FEATURED_PAIRS, FEATURED_PAIRS_ON_GPU = 2**16, 2**20  # whose features are made at once
HELD_OUT_PER_NUMBER, HELD_OUT_PER_STATE = 8, 20  # for each coordinate, for each state
ORACLE_TRIALS = 16  # steps tried at once
ORACLE_NUMBERS, ORACLE_NUMBERS_ON_GPU = 2**18, 2**22  # of the positions that are tried at once
JUDGED_AT_ONCE, JUDGED_PAIRS = 8192, 2**19  # samples, and pairs, that pass the gate at once
STATES_PER_SYSTEM = 128  # held-out ones, on which a stepper is scored
EVALUATED_SYSTEMS, EVALUATED_PAIRS = 64, 2**23  # at most, where the user does not say how many
EVALUATION_S_PER_PAIR = 2.2e-6  # on one core: mostly for dt*
LONG_EVALUATION_S = 60.0
JUDGED_NUMBERS = 2**21  # of a layer's activations
PRODUCTS_OF_A_THREAD = {"float64": 2**22, "float32": 2**23}  # that are worth one more thread
PAIRS_OF_A_THREAD = 2**15


@dataclass(frozen=True)
class Estimate:
    """Parameters, bytes of the training process at its peak and of what it takes of a GPU, where it
    trains there, and of all its checkpoints."""

    parameters: int
    memory_bytes: int
    gpu_memory_bytes: int
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
    number, weight = (BYTES[kind] for kind in (config.dtype, network_type(config)))
    weights = weight * COPIES_OF_WEIGHTS[config.optimizer] * parameters
    total = weights + number * _working_numbers(config, widths)
    saved = weight * COPIES_SAVED[config.optimizer] * parameters
    on_gpu = 0
    if config.device != "cpu":
        on_gpu = GPU_PROCESS_BYTES + weights + number * gpu_numbers(config, widths)
    return Estimate(parameters, PROCESS_BYTES + total, on_gpu, _checkpoints(config) * saved)


def useful_threads(config: Config) -> int:
    """CPU threads that a run is large enough for: measured, fewer are as fast."""
    widths = [network_inputs(config), *config.hidden_dims, OUTPUTS]
    batch = max(config.systems, min(config.replay_batch_size, samples_of_epoch(config)))
    products = batch * sum(a * b for a, b in pairwise(widths))
    pairs = config.systems * config.num_particles**2
    products_each = PRODUCTS_OF_A_THREAD[network_type(config)]
    return max(1, products // products_each, pairs // PAIRS_OF_A_THREAD)


def remarks(config: Config) -> list[str]:
    """What the user should know of a run's size and arithmetic; empty where all is well."""
    found: list[str] = []
    if (total := estimate(config).checkpoint_bytes) >= MANY_BYTES:
        found.append(
            f"its {_checkpoints(config)} checkpoints will take {total / 1e9:.0f} GB: raise "
            f"checkpoint_every ({config.checkpoint_every}), or use a smaller network (hidden_dims)"
        )
    evaluated = evaluated_systems(config)
    pairs = evaluated * STATES_PER_SYSTEM * config.num_particles**2
    if (seconds := pairs * EVALUATION_S_PER_PAIR) > LONG_EVALUATION_S:
        found.append(
            f"to score it on {evaluated} held-out systems takes a core some {seconds / 60:.0f} min "
            "after the training: evaluation_orbits takes fewer, 0 none"
        )
    if config.tf32 and network_type(config) == "float64":
        found.append("tf32 has no effect on float64 networks")
    return found


def evaluated_systems(config: Config) -> int:
    """Held-out systems that a run's stepper is scored on."""
    if config.evaluation_orbits is not None:
        return config.evaluation_orbits
    affordable = EVALUATED_PAIRS // (STATES_PER_SYSTEM * config.num_particles**2)
    return max(2, min(EVALUATED_SYSTEMS, affordable))


def network_type(config: Config) -> Literal["float32", "float64"]:
    """The floating-point type of the network's weights and arithmetic."""
    return config.network_dtype or config.dtype


def _checkpoints(config: Config) -> int:
    """How many are kept: of every so many epochs, from the first on, and of the last."""
    last = config.epochs - 1
    return 1 + last // config.checkpoint_every + (last % config.checkpoint_every > 0)


def samples_of_epoch(config: Config) -> int:
    """Samples that an epoch's trajectory has at most."""
    return config.systems * config.steps_per_epoch


def looks_at_bodies(config: Config) -> bool:
    """Whether the gate looks at each body, as far as a config tells."""
    light = SYSTEMS[config.initial_conditions].light_bodies
    return config.gate == "each" or (config.gate == "auto" and light)


def gpu_numbers(config: Config, widths: list[int]) -> int:
    """Numbers that the loops of a GPU have in its memory at their peak, besides weights.

    Graphs have memory of their own beside that of what is launched one by one.
    """
    n, dim, systems = config.num_particles, config.dim, config.systems
    listed = n * (n - 1) // 2 if n <= LISTED_UP_TO else 0
    each, passes = looks_at_bodies(config), METHODS[config.integrator].passes
    step = GPU_STEP_PER_NUMBER * n * dim + GPU_STEP_PER_LISTED * listed
    step += each * EACH_PER_NUMBER * n * dim
    series = 1 + each * 2 * n
    features = FEATURES_PER_PAIR * (listed or n * n) + FEATURES_PER_SERIES * series
    row = n * kept_each(config) * dim + input_width(config.feature_type, config.history_len) + 6
    samples, banded = samples_of_epoch(config), config.loss != "oracle"
    minibatch = min(config.replay_batch_size, samples)
    trained = COPIES_OF_ACTIVATIONS * sum(widths)
    tried = min(samples, max(1, ORACLE_NUMBERS_ON_GPU // (ORACLE_TRIALS * n * dim)))
    judged = min(samples, judged_at_once(config), max(1, JUDGED_PAIRS // n**2))

    def block(states: int, per_pair: int) -> int:
        return 0 if listed else per_pair * min(PAIRS_AT_ONCE_ON_GPU, states * n * n)

    kept = (samples + systems) * row + samples * row + minibatch * row
    graphs = max(
        min(systems, max(1, FEATURED_PAIRS_ON_GPU // n**2)) * features,
        systems * (trained + 2 * passes * step) + block(systems, BACKWARD_PER_PAIR),
        minibatch * (trained + banded * 3 * passes * step)
        + block(minibatch, BACKWARD_PER_PAIR) * banded,
    )
    launched = judged * (3 * max(widths) + step) + block(judged, BLOCK_PER_PAIR)
    if not banded:
        tries = tried * ORACLE_TRIALS
        launched = max(launched, tries * step + block(tries, BLOCK_PER_PAIR))
    return kept + graphs + launched


def kept_each(config: Config) -> int:
    """Numbers of each coordinate that a state is: position, velocity, acceleration, and the four
    derivatives that an integrator keeps which predicts."""
    return 7 if METHODS[config.integrator].predicts else 3


def judged_at_once(config: Config) -> int:
    """Samples that pass the gate at once: fewer for a wide network."""
    return max(1, min(JUDGED_AT_ONCE, JUDGED_NUMBERS // max(config.hidden_dims, default=1)))


def _working_numbers(config: Config, widths: list[int]) -> int:
    """Numbers in memory at the peak of an epoch, besides weights."""
    n, dim, systems = config.num_particles, config.dim, config.systems
    listed = n * (n - 1) // 2 if n <= LISTED_UP_TO else 0
    block = 0 if listed else BACKWARD_PER_PAIR * PAIRS_AT_ONCE
    each, passes = looks_at_bodies(config), METHODS[config.integrator].passes
    step = STEP_PER_NUMBER * n * dim + STEP_PER_LISTED * listed + each * EACH_PER_NUMBER * n * dim
    series = 1 + each * 2 * n
    features = FEATURES_PER_PAIR * (listed or n * n) + FEATURES_PER_SERIES * series
    samples = samples_of_epoch(config)
    width = input_width(config.feature_type, config.history_len)
    moving = n * kept_each(config) * dim
    record = (samples + systems) * (moving + width + 6)
    trained = COPIES_OF_ACTIVATIONS * sum(widths)
    tried = min(samples, max(1, ORACLE_NUMBERS // (ORACLE_TRIALS * n * dim)))
    judged = min(samples, judged_at_once(config), max(1, JUDGED_PAIRS // n**2))
    minibatch = min(config.replay_batch_size, samples)
    number = BYTES[config.dtype]
    kept = 2 - min(1.0, max(systems, minibatch) * max(widths) * number / HEAP_BLOCK)
    most = max(
        samples * (moving + width + 14),  # the trajectory is gathered from the record
        min(systems, max(1, FEATURED_PAIRS // n**2)) * features,
        systems * (kept * trained + 2 * passes * step),
        minibatch * (kept * trained + (0 if config.loss == "oracle" else 9 * passes * step)),
        tried * ORACLE_TRIALS * step if config.loss == "oracle" else 0,
    )
    judging = judged * (2 * max(widths) + step)  # which the allocator keeps beside it
    evaluation = _evaluated_numbers(config, max(widths), step, features)
    return record + block + max(judging + round(most), evaluation)


def _evaluated_numbers(config: Config, width: int, step: int, features: int) -> int:
    """Numbers in memory while a stepper is scored: of held-out states, and of what is asked of some
    of them at a time.

    Args:
        width: of the widest layer.
        step, features: numbers in flight for one state.
    """
    n, dim = config.num_particles, config.dim
    states = evaluated_systems(config) * STATES_PER_SYSTEM
    tried = min(states, max(1, ORACLE_NUMBERS // (ORACLE_TRIALS * n * dim)))
    predicted = min(states, judged_at_once(config))
    at_once = max(
        tried * ORACLE_TRIALS * step,
        min(predicted, max(1, FEATURED_PAIRS // n**2)) * features + predicted * 2 * width,
    )
    return states * (HELD_OUT_PER_NUMBER * n * dim + HELD_OUT_PER_STATE) + at_once
