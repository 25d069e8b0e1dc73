"""Systems that training takes besides those that it draws: where an earlier stepper failed.

Legend: B systems of a draw, H hard systems, N particles, D dimensions. G = 1.
"""

import hashlib
import json

import torch

from nbody.config import Config
from nbody.initial_conditions.kepler import period_of_pair
from nbody.particle import ParticleTorch, make_particle


def with_hard_systems(
    drawn: ParticleTorch, config: Config, generator: torch.Generator
) -> ParticleTorch:
    """A draw (B, N, D) whose first systems are hard ones, `hard_share` of B and at least one."""
    if not config.hard_systems:
        return drawn
    systems = len(drawn.position)
    count = max(1, round(config.hard_share * systems))
    chosen = torch.randint(len(config.hard_systems), (count,), generator=generator)
    hard = make_particle(torch.tensor(config.hard_systems, dtype=torch.float64)[chosen])
    mixed = ParticleTorch(
        torch.cat((config.newton * hard.mass, drawn.mass[count:])),
        torch.cat((hard.position, drawn.position[count:])),
        torch.cat((hard.velocity, drawn.velocity[count:])),
    )
    return mixed if drawn.period is None else mixed.replace(period=period_of_pair(mixed))


def held_out_shift(trained: Config) -> int:
    """What is xor-ed into the seed of held-out systems, so that none is what it was trained on.

    Hard systems are states of a held-out draw: a stepper that has seen them is scored on another.
    """
    if not trained.hard_systems:
        return 0
    text = json.dumps(trained.hard_systems).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7])
