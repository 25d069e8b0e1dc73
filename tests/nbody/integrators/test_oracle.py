"""The first crossing, against a scan of single states with a leapfrog of its own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nbody.gravity.external_field import PointMassTidalField
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.oracle import asked_at_once, first_crossing
from nbody.particle import ParticleTorch

Array = np.ndarray
THRESHOLD = 2e-4


def kepler_states(number: int = 24, seed: int = 0) -> ParticleTorch:
    generator = torch.Generator().manual_seed(seed)
    e, a, anomaly = torch.rand(3, number, generator=generator, dtype=torch.float64)
    return kepler_orbits(0.6 + 0.35 * e, 0.8 + 0.4 * a, 2 * math.pi * anomaly, 1.0, 2)


def three_body_states(number: int = 16, seed: int = 1) -> ParticleTorch:
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, number, 3, 2, generator=generator, dtype=torch.float64)
    mass = 0.5 + torch.rand(number, 3, generator=generator, dtype=torch.float64)
    return ParticleTorch.from_tensors(mass, position, 0.4 * velocity, softening=0.05)


class Brute:
    """Energy errors of one state for many trial steps at once, in plain numpy."""

    def __init__(self, states: ParticleTorch, index: int) -> None:
        self.x = states.position[index].numpy()
        self.m = states.mass[index].numpy()
        v = states.velocity[index].numpy()
        self.v = v - (self.m[:, None] * v).sum(0) / self.m.sum()
        self.softening = states.softening

    def force(self, x: Array) -> tuple[Array, Array]:
        """Acceleration (C, N, D) and potential energy (C,) of positions (C, N, D)."""
        d = x[:, None, :, :] - x[:, :, None, :]
        r = np.sqrt((d**2).sum(-1) + self.softening**2)
        r[:, range(len(self.m)), range(len(self.m))] = np.inf
        acceleration = (self.m[:, None] * d / r[..., None] ** 3).sum(2)
        return acceleration, -0.5 * (self.m[:, None] * self.m / r).sum((1, 2))

    def energy(self, v: Array, potential: Array) -> Array:
        return 0.5 * (self.m * (v**2).sum(-1)).sum(-1) + potential

    def error(self, dt: Array) -> Array:
        """Relative energy error (C,) of one KDK step with each dt (C,)."""
        dt = np.asarray(dt, dtype=float)[:, None, None]
        acceleration, potential = self.force(self.x[None])
        before = self.energy(self.v, potential)
        v = self.v + 0.5 * dt * acceleration
        kicked, potential = self.force(self.x + dt * v)
        return np.abs(self.energy(v + 0.5 * dt * kicked, potential) - before) / np.abs(before)

    def free_fall_time(self) -> float:
        pairs = [(i, j) for i in range(len(self.m)) for j in range(i)]
        return min(
            math.sqrt(
                (((self.x[i] - self.x[j]) ** 2).sum() + self.softening**2) ** 1.5
                / (self.m[i] + self.m[j])
            )
            for i, j in pairs
        )

    def first_crossing(self, threshold: float) -> float:
        trials = 1e-4 * self.free_fall_time() * 1.02 ** np.arange(1200)
        first = int(np.argmax(self.error(trials) >= threshold))
        assert first > 0
        low, high = trials[first - 1], trials[first]
        for _ in range(60):
            middle = 0.5 * (low + high)
            if self.error(np.array([middle]))[0] >= threshold:
                high = middle
            else:
                low = middle
        return high


def brute(states: ParticleTorch, threshold: float = THRESHOLD) -> Tensor:
    found = [Brute(states, k).first_crossing(threshold) for k in range(len(states.mass))]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("make", [kepler_states, three_body_states])
@pytest.mark.parametrize("threshold", [2e-4, 1e-2])
def test_it_is_the_first_crossing_that_a_fine_scan_finds(make: object, threshold: float) -> None:
    states = make()
    found = first_crossing(states.states(), threshold)
    torch.testing.assert_close(found, brute(states, threshold), rtol=1e-7, atol=0)


@pytest.mark.parametrize("make", [kepler_states, three_body_states])
def test_the_error_there_is_the_threshold_and_every_smaller_step_passes(make: object) -> None:
    states = make()
    star = first_crossing(states.states(), THRESHOLD)
    for k, dt in enumerate(star.tolist()):
        below = np.concatenate([np.geomspace(1e-4, 0.9, 400), np.linspace(0.9, 1 - 1e-7, 400)])
        state = Brute(states, k)
        assert state.error(np.array([dt]))[0] == pytest.approx(THRESHOLD, rel=1e-6)
        assert float(state.error(dt * below).max()) < THRESHOLD


def test_a_narrow_peak_of_the_error_is_not_stepped_over() -> None:
    """Outbound states whose error touches the threshold, falls, and rises again 50 % later."""
    e = torch.tensor([0.6131218165159226, 0.7664104133844375], dtype=torch.float64)
    anomaly = torch.tensor([2.7351648932479264, 2.7406929914925504], dtype=torch.float64)
    states = kepler_orbits(e, torch.ones(2, dtype=torch.float64), anomaly, 1.0, 2)
    found = first_crossing(states.states(), THRESHOLD)
    torch.testing.assert_close(found, brute(states), rtol=1e-6, atol=0)


def test_a_larger_step_that_passes_again_is_not_taken() -> None:
    """An inbound Kepler state has such a step by symmetry about the pericentre."""
    e, anomaly = torch.tensor([0.6]).double(), torch.tensor([-0.05]).double()
    states = kepler_orbits(e, torch.ones(1).double(), anomaly, 1.0, 2)
    star = float(first_crossing(states.states(), THRESHOLD))
    trials = star * 1.001 ** np.arange(100, 3000)
    assert float(Brute(states, 0).error(trials).min()) < THRESHOLD  # there is one
    assert star == pytest.approx(float(brute(states)), rel=1e-7)


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_it_scales_with_the_power_three_halves(scale: float) -> None:
    states = kepler_states()
    scaled = ParticleTorch.from_tensors(
        states.mass, scale * states.position, scale**-0.5 * states.velocity
    )
    torch.testing.assert_close(
        first_crossing(scaled.states(), THRESHOLD),
        scale**1.5 * first_crossing(states.states(), THRESHOLD),
        rtol=1e-6,
        atol=0,
    )


def test_a_boost_does_not_change_it() -> None:
    states = three_body_states()
    boosted = three_body_states()
    boosted.velocity = boosted.velocity + 3.0
    torch.testing.assert_close(
        first_crossing(boosted.states(), THRESHOLD),
        first_crossing(states.states(), THRESHOLD),
        rtol=1e-6,
        atol=0,
    )


def test_its_answer_for_a_state_does_not_depend_on_the_rest_of_the_batch() -> None:
    states = kepler_states()
    together = first_crossing(states.states(), THRESHOLD)
    for k in (0, 7, 23):
        alone = first_crossing(states.select(k).states(), THRESHOLD)
        torch.testing.assert_close(alone, together[k : k + 1], rtol=1e-12, atol=0)


def test_a_looser_threshold_allows_a_larger_step() -> None:
    states = kepler_states().states()
    steps = [first_crossing(states, threshold) for threshold in (1e-6, 2e-4, 1e-2)]
    assert bool((steps[0] < steps[1]).all())
    assert bool((steps[1] < steps[2]).all())


def test_several_steps_at_once_are_checked_after_each() -> None:
    states = kepler_states().states()
    star = first_crossing(states, THRESHOLD, n_steps=3)
    position, velocity, worst = states.position, states.velocity, torch.zeros_like(star)
    for _ in range(3):
        now = ParticleTorch.from_tensors(
            states.mass, position, velocity, softening=states.softening
        ).states()
        step = now.step(star)
        position, velocity = step.position, step.velocity
        worst = torch.maximum(worst, ((step.energy - states.energy) / states.energy).abs())
    torch.testing.assert_close(worst, torch.full_like(worst, THRESHOLD), rtol=1e-6, atol=0)


def test_an_external_field_counts() -> None:
    states = kepler_states()
    bare = first_crossing(states.states(), THRESHOLD)
    states.external_field = PointMassTidalField(mass=50.0, position=(4.0, 0.0))
    in_field = states.states()
    star = first_crossing(in_field, THRESHOLD)
    assert not torch.allclose(star, bare, rtol=1e-3)
    error = in_field.step(star).energy_error
    torch.testing.assert_close(error, torch.full_like(error, THRESHOLD), rtol=1e-6, atol=0)


def test_singular_states_get_an_answer_that_is_a_positive_number() -> None:
    position = torch.zeros(2, 2, 2, dtype=torch.float64)
    position[1, 0, 0] = 1e-9
    velocity = torch.ones(2, 2, 2, dtype=torch.float64)
    velocity[:, 0] = -1.0
    states = ParticleTorch.from_tensors(torch.ones(2, 2, dtype=torch.float64), position, velocity)
    star = first_crossing(states.states(), THRESHOLD)
    assert torch.isfinite(star).all()
    assert bool((star > 0).all())


def test_a_gpu_is_asked_for_an_epochs_samples_at_once() -> None:
    """Each part costs it some two thousand launches."""
    plummer_16 = 16 * 3
    assert asked_at_once(plummer_16, torch.device("cuda")) >= 64 * 16
    assert asked_at_once(plummer_16, torch.device("cpu")) < 64 * 16
    assert asked_at_once(10**9, torch.device("cpu")) == 1
