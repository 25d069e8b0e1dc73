"""Features of what a Hermite step leaves: what they are, and what does not change them."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from nbody.config import Config
from nbody.config.input_width import WIDTHS
from nbody.features.leading_error import leading_error_features
from nbody.gravity.force import counted_forces
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.hermite import HERMITE_4
from nbody.integrators.oracle import first_crossing
from nbody.integrators.states import States
from nbody.simulation.criteria import aarseth

THRESHOLD = 1e-9


def plummer(systems: int = 4, bodies: int = 8, steps: int = 3) -> States:
    """Systems some small steps after their beginning."""
    given = {"initial_conditions": "plummer", "num_particles": bodies, "dim": 3}
    config = Config(**given, num_systems=systems, integrator="hermite4", device="cpu")
    states = initial_particle(config, seed=4).states()
    for _ in range(steps):
        states = states.after(states.step(0.02 * aarseth(states)))
    return states


def features(states: States, threshold: float = THRESHOLD) -> torch.Tensor:
    return leading_error_features(states, threshold)


def test_they_cost_no_pass_and_have_the_width_that_is_told() -> None:
    states = plummer()
    with counted_forces() as count:
        found = features(states)
    assert count.systems == 0
    assert found.shape == (4, WIDTHS["leading_error"])
    assert bool(found.isfinite().all())


def test_the_reference_time_is_where_the_leading_error_reaches_a_small_threshold() -> None:
    """Where that error does not vanish: dt* of the oracle is close by, for most states."""
    states = plummer(systems=24)
    crossing = first_crossing(states, THRESHOLD)
    ratio = (features(states)[:, -1].exp() / crossing).log().abs()
    assert float(ratio.median()) < 0.15
    leading = states.integrator.leading_error(states.motion, states.pulled)
    alone = (THRESHOLD * states.scale / leading.abs()) ** 0.2
    ahead = 1 - 0.5 * features(states)[:, -2]  # half a step later
    assert bool((ahead * features(states)[:, -1].exp() <= alone * (1 + 1e-12)).all())


def moved(states: States, turn: torch.Tensor, boost: float, order: torch.Tensor) -> States:
    def vector(values: torch.Tensor) -> torch.Tensor:
        return (values @ turn.T)[..., order, :]

    assert states.derivatives is not None
    return replace(
        states,
        position=vector(states.position) + 3.0,
        velocity=vector(states.velocity) + boost,
        mass=states.mass[:, order],
        acceleration=vector(states.acceleration),
        derivatives=vector(states.derivatives),
    )


def test_frame_and_order_do_not_change_them() -> None:
    states = plummer()
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(1))
    )
    order = torch.randperm(8, generator=torch.manual_seed(2))
    torch.testing.assert_close(
        features(moved(states, turn, 0.7, order)), features(states), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_a_scaled_system_has_the_same_features_and_a_scaled_time(scale: float) -> None:
    states = plummer()
    assert states.derivatives is not None
    powers = torch.tensor([-3.5, -5.0, -6.5, -8.0], dtype=torch.float64).view(4, 1, 1)
    scaled = replace(
        states,
        position=scale * states.position,
        velocity=scale**-0.5 * states.velocity,
        acceleration=scale**-2 * states.acceleration,
        derivatives=scale**powers * states.derivatives,
        energy=states.energy / scale,
        scale=states.scale / scale,
    )
    before, after = features(states), features(scaled)
    torch.testing.assert_close(after[:, :-1], before[:, :-1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(after[:, -1], before[:, -1] + 1.5 * math.log(scale))


def test_bodies_that_are_alone_or_massless_leave_them_finite() -> None:
    rows = torch.zeros(1, 3, 3, dtype=torch.float64)
    rows[0, 1, 0], rows[0, 2, 0] = 1.0, 1e9
    velocity = torch.zeros_like(rows)
    velocity[0, 1, 1] = 1.0
    mass = torch.tensor([[1.0, 1e-3, 0.0]], dtype=torch.float64)
    states = States.at(rows, velocity, mass, integrator=HERMITE_4)
    assert bool(features(states).isfinite().all())


def test_a_leapfrog_leaves_nothing_behind() -> None:
    with pytest.raises(ValidationError, match="leaves no derivatives behind"):
        Config(feature_type="leading_error")
    given = {"feature_type": "leading_error", "integrator": "hermite4"}
    assert Config(**given).dt_head == "log"
    with pytest.raises(ValidationError, match="needs no past states"):
        Config(**given, history_len=1)
