"""The engine in C says what torch says, and what REBOUND says."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from nbody.config import Config
from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.states import States
from nbody.native.engine import (
    CRITERION_NAMES,
    NativeRule,
    NativeState,
    NativeSystem,
    ask_natively,
    repeat_step,
    run_natively,
)
from nbody.native.weights import Weights, weights_of
from nbody.simulation.criteria import criteria_of
from nbody.simulation.integration import integrate
from nbody.simulation.rules import Rule
from nbody.stepper import Stepper
from tests.nbody.native.steppers import small_stepper

STEP, STEPS = 1e-3, 10


def plummer(bodies: int, integrator: IntegratorName, *, softening: float = 0.0) -> States:
    given = {"initial_conditions": "plummer", "num_particles": bodies, "num_systems": 3}
    config = Config(**given, dim=3, integrator=integrator, softening=softening, device="cpu")
    return initial_particle(config, seed=5).states()


def native(states: States, which: int) -> NativeSystem:
    return NativeSystem(
        states.mass[which].numpy(),
        in_space(states.position[which]),
        in_space(states.velocity[which]),
        states.softening,
    )


def in_space(vectors: torch.Tensor) -> np.ndarray:
    """(..., N, 3) of vectors in a plane or in space."""
    missing = 3 - vectors.shape[-1]
    return torch.nn.functional.pad(vectors, (0, missing)).numpy()


@pytest.mark.parametrize("bodies", [2, 3, 6, 7, 8, 17])
@pytest.mark.parametrize("integrator", get_args(IntegratorName))
def test_steps_are_those_of_torch(bodies: int, integrator: IntegratorName) -> None:
    begin = after = plummer(bodies, integrator, softening=0.01 if bodies == 7 else 0.0)
    for _ in range(STEPS):
        after = after.after(after.step(torch.full_like(after.energy, STEP)))
    for which in range(len(begin)):
        found = repeat_step(native(begin, which), integrator, STEP, STEPS)
        assert np.allclose(found.position, after.position[which], rtol=0, atol=1e-13)
        assert np.allclose(found.velocity, after.velocity[which], rtol=0, atol=1e-13)


@pytest.mark.parametrize("criterion", CRITERION_NAMES)
@pytest.mark.parametrize("integrator", ["leapfrog4", "hermite4"])
@pytest.mark.parametrize("reversible", [False, True])
def test_criteria_are_those_of_torch(
    criterion: str, integrator: IntegratorName, reversible: bool
) -> None:
    if criterion not in criteria_of(integrator) or (
        reversible and not METHODS[integrator].symmetric
    ):
        pytest.skip("says nothing of these steps")
    accuracy = 1e-7 if criterion == "leading error, no network" else 1e-2
    states = plummer(7, integrator)
    limit = torch.full_like(states.energy, accuracy)
    asking = replace(states, threshold=limit) if accuracy < 1e-2 else states
    factor = 1.0 if accuracy < 1e-2 else accuracy
    rule = criteria_of(integrator)[criterion]
    torch_rule = Rule(lambda at, _: factor * rule(at), reversible=reversible)
    span, steps, after = torch.full_like(states.energy, 0.05), torch.zeros(3), asking
    for step in integrate(asking, torch_rule, span):
        steps, after = steps + (step.dt > 0), step.states
    in_c = NativeRule(accuracy, criterion, reversible=reversible)
    for which in range(3):
        found = run_natively(native(states, which), integrator, in_c, 0.05)
        assert found.end == "done"
        assert found.steps == int(steps[which])
        assert np.allclose(found.position, after.position[which], rtol=0, atol=1e-8)


@pytest.mark.parametrize("feature_type", ["leading_error", "dimensionless"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "gelu", "isru"])
def test_a_stepper_in_c_says_what_torch_says(feature_type: str, activation: str) -> None:
    stepper, states = small_stepper(feature_type, activation=activation)
    assert_agreement(stepper, states)


def test_a_fourier_embedding_and_no_hidden_layer_are_told_the_same() -> None:
    assert_agreement(*small_stepper("dimensionless", fourier_scale=0.3, fourier_dim=8))
    assert_agreement(*small_stepper("leading_error", hidden_dims=[]))


def assert_agreement(stepper: Stepper, states: States) -> None:
    """At several states, within 1e-12, inside of what was trained on and outside."""
    weights = weights_of(stepper.model, stepper.config.feature_type)
    said = stepper.of_states(states)
    knows = stepper.knows(states)
    assert bool(knows.any())
    for which in range(len(states)):
        dt, known = ask_natively(weights, asked(states, which), stepper.config.energy_threshold)
        assert known == bool(knows[which])
        if known or stepper.config.feature_type == "leading_error":
            assert dt == pytest.approx(float(said[which]), rel=1e-12)


def asked(states: States, which: int) -> NativeState:
    path = in_space(states.path()[:, which])
    return NativeState(native(states, which), float(states.scale[which]), path)


def test_an_even_step_is_the_same_forth_and_back() -> None:
    stepper, states = small_stepper("dimensionless")
    weights = Weights(**{**vars(weights_of(stepper.model, "dimensionless")), "envelope": None})
    for which in range(len(states)):
        forth, back = (
            ask_natively(weights, asked(s, which), 1e-4, even=True)[0]
            for s in (states, states.reversed())
        )
        assert forth == pytest.approx(back, rel=1e-12)


def test_a_state_that_is_not_finite_gets_no_step() -> None:
    stepper, states = small_stepper("dimensionless")
    state = asked(states, 0)
    state.system.position[0, 0] = np.nan
    dt, known = ask_natively(weights_of(stepper.model, "dimensionless"), state, 1e-4)
    assert np.isnan(dt)
    assert not known


def test_a_run_that_is_lost_or_stands_still_says_so() -> None:
    system = native(plummer(3, "leapfrog2"), 0)
    assert run_natively(system, "leapfrog2", NativeRule(2.0), 100.0, lost_at=0.5).end == "lost"
    assert run_natively(system, "leapfrog2", NativeRule(1e-30), 1.0).end == "stands still"
    few = run_natively(system, "leapfrog2", NativeRule(1e-3), 1.0, most_steps=7)
    assert (few.end, few.steps) == ("too many steps", 7)
