"""Time-step criteria in use: the time scale of a state, to be multiplied by a constant.

Legend: T states, N particles, D dimensions, E edges. All are in units where G = 1. Criteria that
are per particle or per pair give the smallest.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.features.dimensionless import dimensionless_features
from nbody.features.error_columns import error_series_features
from nbody.features.leading_error import leading_error_features
from nbody.gravity.edges import edges_of, squared_lengths
from nbody.gravity.free_fall import free_fall_time
from nbody.gravity.vectors import dot, lengths
from nbody.integrators.states import States

NO_FORCE = 1e-12  # of the largest acceleration

Criterion = Callable[[States], Tensor]


def fixed(states: States) -> Float[Tensor, " T"]:
    """One step for every state."""
    return torch.ones_like(states.energy)


def free_fall(states: States) -> Float[Tensor, " T"]:
    """sqrt(r³ / G(m_i + m_j)) of the closest pair."""
    return free_fall_time(states.position, states.mass, states.softening)


def deep_free_fall(states: States) -> Float[Tensor, " T"]:
    """Free fall times (|E|/|φ|)^(1/3): t_ff (r/a)^(1/3), but for a constant, on a Kepler orbit."""
    features = dimensionless_features(
        states.position, states.velocity, states.mass, states.softening
    )
    return features[..., -1].exp()


def separation_over_speed(states: States) -> Float[Tensor, " T"]:
    """r / v of the pair where it is smallest."""
    shortest: list[Tensor] = []
    for edges in edges_of(states.position):
        separation, velocity = (edges.difference(v) for v in (states.position, states.velocity))
        speed = dot(velocity, velocity, dim=0).sqrt()
        distance = squared_lengths(edges, separation, states.softening).sqrt()
        ratio = distance / speed.clamp_min(torch.finfo(speed.dtype).tiny)
        shortest.append(edges.without_loops(ratio, torch.inf).amin(-1))
    return torch.stack(shortest).amin(0)


def aarseth(states: States) -> Float[Tensor, " T"]:
    """sqrt((|a||s| + |j|²) / (|j||c| + |s|²)), with jerk, snap and crackle (Aarseth 1985)."""
    a, j, s, c = _derivatives(states)
    return ((a * s + j.square()) / (j * c + s.square())).sqrt().amin(-1)


def pham_rein_spiegel(states: States) -> Float[Tensor, " T"]:
    """sqrt(2) |a| / sqrt(|j|² + |a||s|) (Pham, Rein & Spiegel 2024).

    Particles on which no force acts, to rounding, have no such time and are left out, as REBOUND
    leaves them out.
    """
    a, j, s, _ = _derivatives(states)
    time = (2 * a.square() / (j.square() + a * s)).sqrt()
    return time.masked_fill(a <= NO_FORCE * a.amax(-1, keepdim=True), torch.inf).amin(-1)


def error_series(states: States) -> Float[Tensor, " T"]:
    """Where the step's own error series crosses the threshold: our features without a network.

    Raises:
        ValueError: the states have no thresholds.
    """
    if states.threshold is None:
        raise ValueError("the error series needs states with a threshold")
    return error_series_features(states, states.threshold)[..., -1].exp()


def leading_error(states: States) -> Float[Tensor, " T"]:
    """Where the leading error of a Hermite step would reach the threshold: our features for it
    without a network.

    Raises:
        ValueError: the states have no thresholds.
    """
    if states.threshold is None:
        raise ValueError("the leading error needs states with a threshold")
    return leading_error_features(states, states.threshold)[..., -1].exp()


SERIES, LEADING = "error series, no network", "leading error, no network"
OWN = {SERIES, LEADING}  # know the threshold, and one integrator
CRITERIA: dict[str, Criterion] = {
    "fixed": fixed,
    "r/v": separation_over_speed,
    "free fall": free_fall,
    "free fall (r/a)^(1/3)": deep_free_fall,
    "Aarseth 1985": aarseth,
    "Pham, Rein & Spiegel 2024": pham_rein_spiegel,
    SERIES: error_series,
    LEADING: leading_error,
}


def criteria_of(integrator: IntegratorName) -> dict[str, Criterion]:
    """The criteria that say something of an integrator's steps."""
    strange = set(OWN)
    if integrator == "leapfrog2":
        strange.remove(SERIES)
    elif METHODS[integrator].predicts:
        strange.remove(LEADING)
    return {name: rule for name, rule in CRITERIA.items() if name not in strange}


def _derivatives(states: States) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """|a|, |jerk|, |snap|, |crackle| of each particle, (T, N) each."""
    a, j, s, c = (lengths(term) for term in states.path()[:4])
    return a, j, s, c
