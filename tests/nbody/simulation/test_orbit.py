"""A run for the eye."""

import json
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.finished import Simulation
from nbody.simulation.orbit import MOST_NUMBERS, MOST_STATES, orbit_of
from nbody.simulation.run import simulate


def run(**fields: Any) -> Simulation:
    config = Config.model_validate(
        {"initial_conditions": "kepler", "integrator_mode": "analytic"} | fields
    )
    return simulate(config, initial_particle(config))


def test_every_state_of_a_short_run_is_there_with_its_step() -> None:
    whole = run(Nperiod=1)
    told = orbit_of(whole)
    assert len(told["time"]) == told["states"] == whole.steps + 1
    assert told["dt"][:-1] == pytest.approx(whole.dt.tolist(), rel=1e-5)
    assert told["position"][3] == [
        pytest.approx(row, rel=1e-4, abs=1e-9) for row in whole.position[3].tolist()
    ]
    json.dumps(told, allow_nan=False)


def test_steps_are_found_where_states_are_asked_for() -> None:
    told = orbit_of(run(Nperiod=1, output_every=0.5, eccentricity=0.9))
    every = run(Nperiod=1, eccentricity=0.9)
    ends = every.dt.cumsum(0)
    for time, dt in zip(told["time"], told["dt"], strict=True):
        taken = every.dt[int((ends <= time).sum().clamp_max(every.steps - 1))]
        assert dt == pytest.approx(float(taken), rel=1e-4)


def test_a_long_run_is_thinned_and_keeps_its_ends() -> None:
    whole = run(integrator_mode="fixed", dt=1e-3, steps=4200)
    told = orbit_of(whole)
    assert len(told["time"]) == min(MOST_STATES, whole.steps + 1) < told["states"]
    assert told["time"][0] == 0
    assert told["time"][-1] == pytest.approx(float(whole.time[-1]), rel=1e-5)


def test_many_bodies_do_not_make_a_large_file() -> None:
    config = {"initial_conditions": "plummer", "num_particles": 300, "num_systems": 1, "steps": 60}
    told = orbit_of(run(**config))
    assert told["bodies"] == 300
    assert len(told["mass"]) == 256
    assert torch.tensor(told["position"]).numel() <= MOST_NUMBERS


def test_of_several_systems_the_first_one_is_told() -> None:
    config = {"initial_conditions": "kepler_ensemble", "num_orbits": 3, "Nperiod": 1}
    whole = run(**config)
    told = orbit_of(whole)
    assert told["systems"] == 3
    assert all(dt > 0 for dt in told["dt"])  # nothing after its own end
    assert told["states"] <= whole.steps + 1
    assert told["position"][0] == [
        pytest.approx(row, rel=1e-5) for row in whole.position[0, 0].tolist()
    ]
