"""A run for the eye: few enough states, the step taken at each, as plain data.

Legend: B systems, N particles, D dimensions, K states.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbody.simulation.finished import Simulation
from nbody.simulation.measures import rounded

MOST_NUMBERS = 60_000  # of the positions: half a megabyte as text
MOST_STATES = 4000
MOST_BODIES = 256  # that are told, the first ones
DIGITS = 6


def orbit_of(run: Simulation) -> dict[str, Any]:
    """The first system of a run, at no more than 4000 of its recorded states, evenly taken.

    Returns:
        `time` (K,), `position` (K, N, D) of the first 256 bodies, `mass` of these, `dt` (K,) that
        was taken from each state, `energy_error` (K,), `states`, how many were recorded, `bodies`
        and `systems`, how many there are, `rule` and `threshold`.
    """
    first = run if run.mass.dim() == 1 else run.states((slice(None), 0))
    first = first.states(_its_own(first.time))
    mass = run.mass.reshape(-1, run.mass.shape[-1])[0]
    dt = run.dt.reshape(len(run.dt), -1)[:, 0]
    bodies = min(len(mass), MOST_BODIES)
    most = max(2, min(MOST_STATES, MOST_NUMBERS // (bodies * first.position.shape[-1])))
    shown = _evenly(len(first.time), most)
    time = first.time[shown]
    start, end = run.ends.time.reshape(2, -1)[:, 0]
    return {
        "rule": run.rule,
        "threshold": run.threshold,
        "states": len(first.time),
        "bodies": len(mass),
        "systems": run.largest_energy_error.numel(),
        "time": rounded(time, DIGITS),
        "mass": rounded(mass[:bodies], DIGITS),
        "position": rounded(first.position[shown][:, :bodies], DIGITS),
        "dt": rounded(_step_at((time - start).abs(), dt, (end - start).abs()), DIGITS),
        "energy_error": rounded(first.energy_error[shown], DIGITS),
    }


def _its_own(time: Float[Tensor, " K"]) -> Int[Tensor, " A"]:
    """The states of a system until its own end: others of the batch may go on."""
    moves = torch.ones_like(time, dtype=torch.bool)
    moves[1:] = time[1:] != time[:-1]
    return moves.nonzero().squeeze(1)


def _evenly(number: int, most: int) -> Int[Tensor, " K"]:
    """Indices, first and last among them."""
    return torch.linspace(0, number - 1, min(number, most)).round().long()


def _step_at(
    passed: Float[Tensor, " K"], dt: Float[Tensor, " steps"], span: Float[Tensor, ""]
) -> Float[Tensor, " K"]:
    """The dt of the step that was taken when so much time had passed; of the last one at the end.

    Several KDK steps of one dt may have made a step: together they last the span.
    """
    if not len(dt):
        return torch.zeros_like(passed)
    ends = dt.abs().cumsum(0)
    ends = ends * span / ends[-1]
    index = torch.searchsorted(ends, passed * (1 + 1e-12), right=True)
    return dt[index.clamp_max(len(dt) - 1)].abs()
