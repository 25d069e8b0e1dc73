"""Frames, output times, runs back in time, and what a report says of itself."""

import math
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.errors import SimulationImpossible
from nbody.gravity.force import pairwise
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.finished import Simulation
from nbody.simulation.recording import AtTimes
from nbody.simulation.run import simulate

PAIR = [[1.0, 10.0, 3.0, 5.0, 0.2], [2.0, 11.0, 3.0, 5.0, 1.4]]


def run(**fields: object) -> Simulation:
    given = {"device": "cpu", "integrator_mode": "analytic", "eta": 0.05} | fields
    config = Config.model_validate(given)
    return simulate(config, initial_particle(config, seed=1))


def pair(**fields: object) -> Simulation:
    return run(initial_conditions="inline", particles=PAIR, **fields)


def test_states_come_back_in_the_frame_they_went_in() -> None:
    found = pair(duration=3.0)
    rows = torch.tensor(PAIR, dtype=torch.float64)
    torch.testing.assert_close(found.position[0], rows[:, 1:3])
    torch.testing.assert_close(found.velocity[0], rows[:, 3:])
    mass = rows[:, :1]
    start, end = ((mass * x).sum(0) / 3 for x in (found.position[0], found.position[-1]))
    torch.testing.assert_close(end - start, 3.0 * (mass * rows[:, 3:]).sum(0) / 3)


def test_states_at_chosen_times_lie_on_the_run_that_keeps_every_step() -> None:
    whole, chosen = pair(duration=2.0), pair(duration=2.0, output_times=[0.0, 0.31, 0.5, 2.0])
    assert chosen.time.tolist() == pytest.approx([0.0, 0.31, 0.5, 2.0])
    assert chosen.steps == whole.steps
    assert chosen.dt.equal(whole.dt)
    torch.testing.assert_close(chosen.position[-1], whole.position[-1])
    later = int((whole.time > 0.31).int().argmax())
    share = (0.31 - whole.time[later - 1]) / (whole.time[later] - whole.time[later - 1])
    between = torch.lerp(whole.position[later - 1], whole.position[later], share)
    torch.testing.assert_close(chosen.position[1], between, rtol=0, atol=1e-3)
    assert chosen.largest_energy_error.equal(whole.largest_energy_error)


def test_every_system_of_a_batch_is_kept_at_the_same_times() -> None:
    found = run(initial_conditions="kepler_ensemble", num_orbits=3, duration=1.0, output_every=0.25)
    assert found.time.shape == (5, 3)
    for column in found.time.T:
        assert column.tolist() == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
    assert bool(found.position.isfinite().all())


def test_back_in_time_and_forth_again_is_where_it_began() -> None:
    back = pair(duration=-2.0, integrator_mode="fixed", dt=0.01)
    assert float(back.time[-1]) == pytest.approx(-2.0)
    assert float(back.dt.max()) < 0
    torch.testing.assert_close(back.velocity[0], torch.tensor(PAIR, dtype=torch.float64)[:, 3:])
    rows = torch.cat(
        (torch.tensor([[1.0], [2.0]], dtype=torch.float64), back.position[-1], back.velocity[-1]), 1
    )
    forth = run(
        initial_conditions="inline",
        particles=rows.tolist(),
        duration=2.0,
        integrator_mode="fixed",
        dt=0.01,
    )
    torch.testing.assert_close(forth.position[-1], back.position[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(forth.velocity[-1], back.velocity[0], rtol=0, atol=1e-9)


def test_a_report_has_the_orbits_the_encounter_and_what_was_conserved() -> None:
    report = pair(duration=2.0).report()
    system = report["systems"][0]
    orbit = system["orbits"]["initial"][0]
    energy = 0.5 * 1.2**2 - 3.0
    assert orbit["around"] == 1
    assert orbit["semi_major_axis"] == pytest.approx(-3 / (2 * energy))
    assert system["energy"][0] == pytest.approx(2 / 3 * energy)
    assert system["momentum"][0] == pytest.approx([15.0, 3.0])
    assert system["closest"]["bodies"] == [0, 1]
    assert report["energy_error_relative_to"] == "energy"
    assert report["warnings"] == []


def test_a_parabola_is_measured_against_what_does_not_vanish() -> None:
    rows = [[1.0, -0.5, 0.0, 0.0, -1.0], [1.0, 0.5, 0.0, 0.0, 1.0]]
    found = run(initial_conditions="inline", particles=rows, duration=1.0)
    assert found.report()["energy_error_relative_to"] == "kinetic_and_potential_energy"
    assert 0 < float(found.largest_energy_error) < 1e-2


def test_the_worst_body_is_named() -> None:
    rows = [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [1e-3, 5.0, 0.0, 0.0, math.sqrt(1 / 5)],
        [1e-9, 0.0, -0.1, 4.3, 0.0],
    ]
    report = run(initial_conditions="inline", particles=rows, duration=1.0, eta=0.2).report()
    assert report["worst_body"] == 2  # and not the star, whose orbit about it is the same one
    assert report["worst_body_step_error"] > 1e-5


def test_an_error_of_order_one_is_no_plain_success() -> None:
    report = pair(duration=20.0, integrator_mode="fixed", dt=0.9).report()
    assert "means nothing" in report["warnings"][0]


def test_a_clock_that_stands_still_ends_the_run() -> None:
    with pytest.raises(SimulationImpossible, match="stands still"):
        pair(duration=1e20, integrator_mode="fixed", dt=1e-300, steps=5)


def test_a_run_that_ends_by_its_steps_keeps_the_outputs_that_it_reached() -> None:
    found = run(initial_conditions="kepler_ensemble", num_orbits=3, steps=30, output_every=0.01)
    assert 2 < len(found.time) < 1000
    assert bool(found.position.isfinite().all())
    with pytest.raises(SimulationImpossible, match="before the first output"):
        pair(steps=2, output_times=[50.0, 100.0])


def test_what_is_kept_changes_nothing_that_is_told() -> None:
    """An eccentric pair that is output once, long after its pericentre and before its end."""
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [1e-3, 1.8, 0.0, 0.0, 0.25]]
    given = {"initial_conditions": "inline", "particles": rows, "duration": 6.0}
    whole, outputs = run(**given).report(), run(**given, output_times=[5.0]).report()
    for name, value in whole.items():
        if name.startswith(("final_time", "final_energy", "systems", "steps", "max_energy")):
            assert outputs[name] == value, name
    assert whole["systems"][0]["closest"]["distance"] < 0.2


def test_the_closest_encounter_is_that_of_all_states() -> None:
    kept = run(initial_conditions="pythagorean", duration=10.0)
    distances = torch.stack([torch.pdist(state) for state in kept.position])
    place = int(distances.min(1).values.argmin())
    [found] = kept.closest or []
    assert found["distance"] == pytest.approx(float(distances.min()), rel=1e-9)
    assert found["time"] == float(kept.time[place])
    first, second = found["bodies"]
    there = kept.position[place]
    assert float((there[first] - there[second]).norm()) == pytest.approx(found["distance"])


def test_a_network_that_repeats_its_steps_is_looked_at_with_steps_as_short() -> None:
    config = Config.model_validate({"device": "cpu", "duration": 1.0, "output_every": 0.01})
    states = initial_particle(config).states()
    zero = torch.zeros_like(states.energy)
    kept = AtTimes(states, zero, torch.tensor([0.9], dtype=torch.float64), repeats=8)
    kept.step(states, states, zero, zero + 1.0)
    fine = states.after(states.step(zero + 0.9 / 8, 8))
    torch.testing.assert_close(kept.kept[0].position, fine.position)


def test_a_gate_that_does_not_see_a_light_body_says_so() -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0]]
    given = {"initial_conditions": "inline", "particles": rows, "steps": 5}
    assert "gate=each" in run(**given, gate="energy").report()["warnings"][0]
    assert run(**given).report()["warnings"] == []


def test_output_times_after_the_end_are_refused() -> None:
    with pytest.raises(ValueError, match="after the end"):
        pair(duration=-2.0, output_times=[1.0, 2.5])


COMET = [
    [1.0, 0.0, 0.0, 0.0, 0.0],
    [9.5e-4, 5.2, 0.0, 0.0, 0.4385],
    [0.0, -4.925, 0.0, 0.0, -0.0785],
]


@pytest.mark.parametrize(
    ("rule", "more"),
    [("analytic", {"eta": 0.3}), ("fixed", {"dt": 0.3}), ("reversible", {"eta": 0.3})],
)
def test_a_light_body_that_is_thrown_out_is_named_and_warned_of(
    rule: str, more: dict[str, float]
) -> None:
    given = {"initial_conditions": "inline", "particles": COMET, "duration": 24.0}
    report = run(**given, integrator_mode=rule, **more).report()
    assert report["worst_body"] == 2
    assert any("the orbit of body 2" in text and "gated" in text for text in report["warnings"])
    kept = run(**given, integrator_mode="gated").report()
    assert (kept["worst_body"], kept["warnings"]) == (2, [])


def test_every_force_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counting(position: torch.Tensor, *rest: Any, **more: Any) -> Any:
        calls.append(position.shape[:-2].numel())
        return pairwise(position, *rest, **more)

    monkeypatch.setattr("nbody.integrators.motion.pairwise", counting)
    given = {"initial_conditions": "inline", "particles": COMET, "steps": 40}
    for rule, least in (("gated", 2.0), ("analytic", 1.0)):
        calls.clear()
        found = run(**given, integrator_mode=rule)
        assert found.force_evaluations == sum(calls)
        assert found.force_evaluations >= least * found.steps


def test_outputs_that_cannot_be_kept_are_refused_at_once() -> None:
    with pytest.raises(SimulationImpossible, match="raise it"):
        pair(duration=3.0, output_every=1e-9)
