"""Test vectors: states of a stepper's own population, and the steps that torch gives them.

Legend: T states, N particles, D dimensions.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.errors import InvalidInitialConditions
from nbody.export.c_source import Facts, filled, numbers, words_of
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.states import States, concatenate_states
from nbody.model import LogTimeStepNN
from nbody.model_adapter import gate_dt
from nbody.stepper import Stepper

SYSTEMS, STEPS, SEED = 6, 4, 7
MOST_NUMBERS = 60_000  # in a file
STRANGE_SPEEDS = 30.0  # times those of a state, which no training saw
THRESHOLD_SHARES = (1.0, 0.3, 3.0)  # of the threshold of training
VECTORS = ("position", "velocity")
PATH = ("acceleration", "jerk", "snap", "crackle", "fourth")


@dataclass(frozen=True)
class Answered:
    """States, the thresholds that a stepper was asked for, and what it said."""

    states: States
    path: Float[Tensor, "5 T N D"]
    threshold: Float[Tensor, " T"]
    dt: Float[Tensor, " T"]
    known: Tensor


def answered(stepper: Stepper, calibration: float) -> Answered:
    """Some states of the stepper's population along its own steps, and some that are strange to it.

    Raises:
        InvalidInitialConditions: its initial conditions are in a file that is not here.
    """
    states = _some_states(stepper)
    order = torch.arange(len(states)) % len(THRESHOLD_SHARES)
    shares = torch.tensor(THRESHOLD_SHARES, dtype=states.energy.dtype)[order]
    threshold = stepper.config.energy_threshold * shares
    states = replace(states, threshold=threshold)
    led = torch.zeros_like(states.energy)
    features = stepper.adapter.features_of(replace(states, gate="energy"), led)
    model = stepper.model
    if not isinstance(model, LogTimeStepNN):
        raise TypeError("a stepper with a log head")
    known = model.knows(features)
    said = model.bounded(features, gate_dt(model, features))
    dt = calibration * torch.where(known, said, model.cautious(features))
    return Answered(
        states, states.path() if _looks_at_path(stepper) else _no_path(states), threshold, dt, known
    )


def vector_files(facts: Facts, found: Answered) -> dict[str, str]:
    """The header and the source of test vectors, by file name."""
    words = {**words_of(facts), "COUNT": str(len(found.dt))}
    header = filled("vectors.h", words)
    rows: list[str] = []
    arrays: list[str] = []
    for k in range(len(found.dt)):
        mine = {"mass": found.states.mass[k], **_vectors(found, k)}
        arrays += [
            f"static const double {name}_{k}[] = {{\n    {numbers(values.numpy())}}};\n"
            for name, values in mine.items()
        ]
        pointers = ", ".join(f"{name}_{k}" for name in mine)
        outside = "false" if bool(found.known[k]) else "true"
        rows.append(
            f"    {{{{{found.states.mass.shape[1]}, {pointers}, {found.states.softening!r}, 1.0, "
            f"{float(found.states.scale[k])!r}}}, {float(found.threshold[k])!r}, "
            f"{float(found.dt[k])!r}, {outside}}},"
        )
    name = facts.name
    source = (
        f'/* Made by `orrery export`. */\n#include "{name}_vectors.h"\n\n#include <math.h>\n\n'
        + "\n".join(arrays)
        + f"\nconst {name}_vector {name}_vectors[{name.upper()}_VECTORS] = {{\n"
        + "\n".join(rows)
        + "\n};\n"
    )
    return {f"{name}_vectors.h": header, f"{name}_vectors.c": source}


def _vectors(found: Answered, k: int) -> dict[str, Tensor]:
    vectors = [found.states.position[k], found.states.velocity[k], *found.path[:, k]]
    missing = 3 - vectors[0].shape[-1]
    padded = [torch.nn.functional.pad(values, (0, missing)) for values in vectors]
    return dict(zip((*VECTORS, *PATH), padded, strict=True))


def _some_states(stepper: Stepper) -> States:
    config = stepper.config
    numbers_each = config.num_particles * (1 + 3 * (len(VECTORS) + len(PATH)))
    systems = max(1, min(SYSTEMS, MOST_NUMBERS // numbers_each // (STEPS + 1)))
    population = config.model_copy(update={"num_systems": systems, "num_orbits": systems})
    try:
        states = initial_particle(population, seed=SEED).states()
    except InvalidInitialConditions as error:
        raise InvalidInitialConditions(
            f"{error.reason}; test vectors are states of the stepper's own population"
        ) from error
    states = states.take(torch.arange(min(systems, len(states))))
    seen = []
    for _ in range(STEPS):
        states = states.after(states.step(stepper.of_states(states)))
        seen.append(states)
    fast = replace(states, velocity=STRANGE_SPEEDS * states.velocity)
    return concatenate_states([*seen, fast])


def _looks_at_path(stepper: Stepper) -> bool:
    return stepper.config.feature_type == "leading_error"


def _no_path(states: States) -> Tensor:
    return states.position.new_zeros(5, *states.position.shape)
