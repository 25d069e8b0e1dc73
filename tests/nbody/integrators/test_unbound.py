"""Orbits that are not bound: energies of zero and above."""

import math

import pytest
import torch
from torch import Tensor

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.oracle import cautious_step, first_crossing
from nbody.integrators.states import States
from nbody.model import LogTimeStepNN, build_model
from nbody.model_adapter import ModelAdapter
from nbody.stepper import Stepper

THRESHOLD = 2e-4
ECCENTRICITIES = (1.0, 1.001, 1.5, 2.0, 5.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
DISTANCES = (1.0, 1.2, 2.0, 5.0, 10.0, 20.0, 50.0)  # in pericentres


def hyperbolas(direction: float) -> States:
    """Equal masses at every distance of every orbit, pericentre 1; direction 1 is outbound."""
    e = torch.tensor(ECCENTRICITIES, dtype=torch.float64).repeat_interleave(len(DISTANCES))
    r = torch.tensor(DISTANCES, dtype=torch.float64).repeat(len(ECCENTRICITIES))
    total = 2.0
    tangential = (total * (1 + e)).sqrt() / r
    radial = (total * (e - 1) + 2 * total / r - tangential.square()).clamp_min(0).sqrt()
    relative = torch.stack((r, torch.zeros_like(r)), dim=1)
    velocity = torch.stack((direction * radial, tangential), dim=1)

    def both(values: Tensor) -> Tensor:
        return torch.stack((-0.5 * values, 0.5 * values), dim=1)

    return States.at(both(relative), both(velocity), torch.ones(len(e), 2, dtype=torch.float64))


def bound_stepper() -> Stepper:
    """A network that has seen bound orbits only, and answers nonsense everywhere."""
    config = Config(hidden_dims=[8], dropout=0.0, device="cpu", num_orbits=64, seed=1)
    adapter = ModelAdapter(config)
    particle = initial_particle(config, seed=1)
    features = adapter.build_feature_tensor(particle)
    model = build_model(config, features.shape[-1]).double()
    assert isinstance(model, LogTimeStepNN)
    model.see(features, features[:, -1].exp())
    with torch.no_grad():
        model.model[-1].bias.fill_(-60.0)  # type: ignore[union-attr]
    return Stepper(model, adapter)


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_outside_of_what_was_trained_steps_stay_near_the_largest_that_pass(
    direction: float,
) -> None:
    states, stepper = hyperbolas(direction), bound_stepper()
    ratio = stepper.of_states(states) / first_crossing(states, THRESHOLD)
    assert stepper.outside == len(states)
    assert float(ratio.min()) > 1 / 3
    assert float(ratio.max()) <= 1.05


def test_inside_a_network_corrects_no_more_than_in_training() -> None:
    stepper = bound_stepper()
    particle = initial_particle(stepper.config, seed=1)
    dt = stepper.of_states(particle.states())
    assert stepper.outside == 0
    ratio = dt / stepper.adapter.build_feature_tensor(particle)[:, -1].exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio))


def test_a_network_without_an_envelope_is_asked_everywhere() -> None:
    stepper = bound_stepper()
    model = stepper.model
    assert isinstance(model, LogTimeStepNN)
    weights = {name: value for name, value in model.state_dict().items() if name != "envelope"}
    older = build_model(stepper.config, model.input_dim).double()
    older.load_state_dict(weights)
    assert bool(Stepper(older, stepper.adapter).model.knows(torch.randn(4, model.input_dim)).all())  # type: ignore[operator]


def test_the_energy_of_a_parabola_is_zero_and_its_steps_are_not() -> None:
    parabola = States.at(
        torch.tensor([[[-0.5, 0.0], [0.5, 0.0]]], dtype=torch.float64),
        torch.tensor([[[0.0, -1.0], [0.0, 1.0]]], dtype=torch.float64),
        torch.ones(1, 2, dtype=torch.float64),
    )
    assert float(parabola.energy) == 0
    assert float(parabola.scale) == pytest.approx(2e-4)
    dt = first_crossing(parabola, THRESHOLD)
    assert 1e-3 < float(dt) < 0.1
    assert float(cautious_step(parabola, THRESHOLD) / dt) == pytest.approx(0.97, abs=0.02)
    assert math.isclose(float(parabola.step(dt).energy_error), THRESHOLD, rel_tol=1e-6)


def test_a_score_is_of_the_network_alone() -> None:
    states, stepper = hyperbolas(1.0), bound_stepper()
    alone = stepper.of_states(states, network_alone=True)
    assert stepper.outside == 0
    assert float(alone.max()) < 1e-9  # the nonsense that it answers


def test_of_several_steps_at_once_all_are_tried() -> None:
    states = hyperbolas(-1.0)
    once, thrice = (cautious_step(states, THRESHOLD, n) for n in (1, 3))
    assert bool((states.step(thrice, 3).energy_error < THRESHOLD).all())
    assert bool((thrice <= once * 1.2).all())
