"""The figure of merit: what a perfect stepper scores, and what is known of the simple criteria."""

import math
from dataclasses import astuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.config.size import estimate, evaluated_systems, remarks
from nbody.evaluation.held_out import HeldOut, held_out_states, predicted_steps
from nbody.evaluation.score import TARGET_VIOLATION, calibration_factor, evaluate, score
from nbody.gravity.free_fall import free_fall_time
from nbody.initial_conditions.from_config import initial_particle
from nbody.model_adapter import ModelAdapter
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher

POPULATION = Config(
    initial_conditions="kepler_ensemble",
    e_min=0.6,
    e_max=0.95,
    feature_type="dimensionless",
    a_min=0.8,
    a_max=1.2,
    energy_threshold=2e-4,
)


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return held_out_states(POPULATION, seed=0, systems=32)


def free_fall(part: HeldOut) -> Tensor:
    return 0.05 * free_fall_time(part.states.position, part.states.mass, 0.0)


class TimeScale(nn.Module):
    """A constant fraction of the reference time in the last column of the features."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.05 * x[:, -1:].exp()


def test_a_perfect_stepper_has_efficiency_one_and_violates_nothing(held_out: HeldOut) -> None:
    found = score(lambda part: part.dt_star * (1 - 1e-6), held_out)
    assert found.efficiency == pytest.approx(1.0, abs=1e-5)
    assert found.calibrated_efficiency == pytest.approx(1.0, abs=1e-3)
    assert found.calibration_factor == pytest.approx(1.0, abs=1e-3)
    assert found.violation_rate == found.overshoot_rate == 0


def test_half_the_step_is_half_the_efficiency_until_it_is_calibrated(held_out: HeldOut) -> None:
    found = score(lambda part: part.dt_star / 2, held_out)
    assert found.efficiency == pytest.approx(0.5)
    assert found.violation_rate == 0
    assert found.calibration_factor == pytest.approx(2.0, abs=2e-3)
    assert found.calibrated_efficiency == pytest.approx(1.0, abs=1e-3)


def test_double_the_step_overshoots_everywhere_and_mostly_violates(held_out: HeldOut) -> None:
    found = score(lambda part: 2 * part.dt_star, held_out)
    assert found.overshoot_rate == 1
    assert 0.9 < found.violation_rate <= 1
    assert found.efficiency == pytest.approx(2.0)
    assert found.calibration_factor == pytest.approx(0.5, abs=1e-3)


def test_efficiency_counts_steps_and_does_not_average_steps(held_out: HeldOut) -> None:
    """Every other step ten times too short makes about 5.5 times the steps."""
    dt = held_out.dt_star.clone()
    dt[::2] /= 10
    share = (held_out.weight / held_out.dt_star)[::2].sum()
    share = float(share / (held_out.weight / held_out.dt_star).sum())
    assert held_out.efficiency(dt) == pytest.approx(1 / (1 + 9 * share))
    assert share == pytest.approx(0.5, abs=0.1)


def test_a_walk_that_ends_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbody.evaluation.held_out.MAX_WALK_STEPS", 100)
    with pytest.warns(UserWarning, match="1 of 1 held-out systems were followed for the first"):
        found = held_out_states(Config(initial_conditions="figure_eight"), seed=0, systems=2)
    assert 0 < len(found.dt_star) < 100


def test_a_violation_is_an_error_at_the_threshold_and_beyond(held_out: HeldOut) -> None:
    dt = torch.where(
        torch.arange(len(held_out.dt_star)) % 4 == 0,
        held_out.dt_star * (1 + 1e-4),
        held_out.dt_star * (1 - 1e-4),
    )
    assert held_out.violation_rate(dt) == pytest.approx(0.25)
    assert held_out.overshoot_rate(dt) == pytest.approx(0.25)


def test_calibration_tries_only_steps_that_may_violate(
    held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factor is where all steps together reach the violations that are allowed."""
    dt, tried = free_fall(held_out), list[int]()
    violations = HeldOut.violations

    def count(self: HeldOut, steps: Tensor) -> int:
        tried.append(len(steps))
        return violations(self, steps)

    monkeypatch.setattr(HeldOut, "violations", count)
    factor = calibration_factor(held_out, dt, NoWatcher())
    assert sum(tried) < 2 * len(dt)  # not all of them forty times
    monkeypatch.undo()
    most = TARGET_VIOLATION - math.sqrt(TARGET_VIOLATION / len(dt))
    assert held_out.violation_rate(factor * dt) <= most
    assert held_out.violation_rate(1.01 * factor * dt) > most


def test_steps_that_are_not_numbers_leave_nothing_to_calibrate(held_out: HeldOut) -> None:
    dt = free_fall(held_out)
    dt[::50] = math.nan
    assert calibration_factor(held_out, dt, NoWatcher()) == 0


@pytest.mark.parametrize(
    ("fields", "systems"),
    [
        ({}, 64),
        ({"initial_conditions": "plummer", "num_particles": 16}, 64),
        ({"initial_conditions": "plummer", "num_particles": 64}, 16),
        ({"initial_conditions": "plummer", "num_particles": 600}, 2),
        ({"initial_conditions": "plummer", "num_particles": 600, "evaluation_orbits": 9}, 9),
        ({"evaluation_orbits": 0}, 0),
    ],
)
def test_many_bodies_are_scored_on_as_many_systems_as_minutes_allow(
    fields: dict[str, Any], systems: int
) -> None:
    config = Config(**fields)
    assert evaluated_systems(config) == systems
    slow = config.num_particles == 600
    assert any("takes a core some" in remark for remark in remarks(config)) == slow


def test_held_out_states_are_part_of_a_runs_memory() -> None:
    small = {"num_particles": 16, "evaluation_orbits": 8}
    bytes_of = [
        estimate(Config(initial_conditions="plummer", **(small | more))).memory_bytes
        for more in ({}, {"evaluation_orbits": 1024})
    ]
    assert bytes_of[1] > bytes_of[0] + 1000 * 128 * 16 * 2 * 3 * 8


def test_a_step_that_is_not_a_number_violates(held_out: HeldOut) -> None:
    assert held_out.violation_rate(torch.full_like(held_out.dt_star, math.nan)) == 1


@pytest.mark.slow
def test_states_in_parts_get_the_score_that_they_get_at_once(
    held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = score(free_fall, held_out)
    monkeypatch.setattr(
        "nbody.evaluation.held_out.PAIRS_AT_ONCE", 4 * 100
    )  # 100 states of two bodies
    assert astuple(score(free_fall, held_out)) == pytest.approx(astuple(at_once), rel=1e-9)


class Ticks(NoWatcher):
    def __init__(self) -> None:
        self.seen = 0

    def tick(self) -> None:
        self.seen += 1


@pytest.mark.slow
def test_an_evaluation_says_that_it_goes_on() -> None:
    ticks = Ticks()
    stepper = Stepper(TimeScale(), ModelAdapter(POPULATION))
    held_out = held_out_states(POPULATION, seed=0, systems=1024, watcher=ticks)
    assert ticks.seen >= 10  # the oracle
    before = ticks.seen
    score(lambda part: predicted_steps(stepper, part), held_out, ticks)
    assert ticks.seen - before >= 40  # the calibration
    walked = POPULATION.model_copy(update={"initial_conditions": "figure_eight"})
    before = ticks.seen
    held_out_states(walked, seed=0, systems=1, watcher=ticks)
    assert ticks.seen - before >= 128  # the walk


@pytest.mark.slow
@pytest.mark.parametrize(
    ("eccentricity", "steps"), [(0.6, 69.8), (0.8, 115.3), (0.9, 169.4), (0.95, 236.1)]
)
def test_the_oracle_takes_the_known_number_of_steps_for_an_orbit(
    eccentricity: float, steps: float
) -> None:
    config = Config(initial_conditions="kepler", eccentricity=eccentricity, semi_major=1.0)
    held_out = held_out_states(config, seed=0, systems=64)
    period = 2 * math.pi * math.sqrt(0.5)
    mean_rate = float((held_out.weight / held_out.dt_star).sum() / held_out.weight.sum())
    assert period * mean_rate == pytest.approx(steps, rel=0.02)


@pytest.mark.slow
def test_the_free_fall_criterion_reaches_what_is_known_of_it() -> None:
    found = score(free_fall, held_out_states(POPULATION, seed=0, systems=256))
    assert found.calibrated_efficiency == pytest.approx(0.44, abs=0.03)
    assert found.calibrated_violation_rate < 0.005


def test_a_constant_factor_on_the_criterion_does_not_change_its_calibrated_score(
    held_out: HeldOut,
) -> None:
    found, scaled = (score(lambda part, f=f: f * free_fall(part), held_out) for f in (1.0, 7.0))
    assert scaled.calibrated_efficiency == pytest.approx(found.calibrated_efficiency, rel=1e-6)
    assert scaled.calibration_factor == pytest.approx(found.calibration_factor / 7, rel=1e-6)


@pytest.mark.slow
def test_a_stepper_is_scored_beside_the_free_fall_criterion() -> None:
    """Our reference time is t_ff (r/a)^(1/3) on a Kepler orbit, which is known to reach 0.54."""
    found = evaluate(Stepper(TimeScale(), ModelAdapter(POPULATION)), seed=3, systems=128)
    assert found["stepper"]["calibrated_efficiency"] == pytest.approx(0.54, abs=0.03)
    free_fall = found["free_fall"]["calibrated_efficiency"]
    assert free_fall < found["stepper"]["calibrated_efficiency"]


def test_held_out_orbits_are_reproducible_and_not_those_of_training(held_out: HeldOut) -> None:
    again = held_out_states(POPULATION, seed=0, systems=32)
    assert torch.equal(again.states.position, held_out.states.position)
    other = held_out_states(POPULATION, seed=1, systems=32)
    assert not torch.equal(other.states.position, held_out.states.position)
    trained = initial_particle(POPULATION.model_copy(update={"num_orbits": 32}), seed=0)
    energies = set(trained.total_energy_batch().mul(1e9).round().tolist())
    assert energies.isdisjoint(held_out.states.energy.mul(1e9).round().tolist())


def test_held_out_states_stand_for_the_time_along_the_orbit() -> None:
    config = Config(initial_conditions="kepler", eccentricity=0.9, semi_major=1.0)
    held_out = held_out_states(config, seed=0, systems=16)
    position = held_out.states.position
    radius = (position[:, 0] - position[:, 1]).norm(dim=-1)
    time_average = (held_out.weight * radius).sum() / held_out.weight.sum()
    mean_radius = 1 + 0.9**2 / 2  # time average along the orbit
    assert float(time_average) == pytest.approx(mean_radius, abs=1e-3)


def test_a_system_without_a_closed_orbit_is_scored_along_its_path() -> None:
    config = Config(initial_conditions="figure_eight")
    found = held_out_states(config, seed=0, systems=2)
    energy = found.states.energy
    torch.testing.assert_close(energy, torch.full_like(energy, -1.28714199), rtol=1e-3, atol=0)
    perfect = score(lambda part: part.dt_star * (1 - 1e-6), found)
    assert perfect.efficiency == pytest.approx(1.0, abs=1e-5)
