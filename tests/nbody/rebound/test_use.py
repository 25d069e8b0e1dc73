"""Our integrators as integrators of REBOUND simulations."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbody.checkpoint import save_checkpoint
from nbody.errors import CompilerMissing
from nbody.native.compiler import find_compiler
from nbody.native.engine import NativeRule, NativeSystem, run_natively
from nbody.native.weights import weights_of
from nbody.rebound import register, use
from tests.nbody.native.steppers import small_stepper

rebound = pytest.importorskip("rebound", minversion="5")

PERIODS = 5
HERMITE = {"integrator": "hermite4", "criterion": "Aarseth 1985", "accuracy": 0.02}
LEAPFROG = {"integrator": "leapfrog6", "criterion": "free fall", "accuracy": 0.2}


def binary(G: float = 1.0, length: float = 1.0) -> Any:
    """Two bodies of e = 0.5 and a third further out."""
    simulation = rebound.Simulation()
    simulation.G = G
    simulation.add(m=1.0)
    simulation.add(m=0.1, a=length, e=0.5)
    simulation.add(m=0.01, a=8 * length, e=0.1, inc=0.3)
    simulation.move_to_com()
    return simulation


def numbers(simulation: Any) -> np.ndarray:
    rows = [(p.x, p.y, p.z, p.vx, p.vy, p.vz) for p in simulation.particles]
    return np.array(rows)


@pytest.mark.parametrize("chosen", [HERMITE, LEAPFROG])
def test_orbits_are_those_of_ias15(chosen: dict[str, Any]) -> None:
    ours, theirs = binary(), binary()
    use(ours, **chosen)
    for simulation in (ours, theirs):
        simulation.integrate(2 * math.pi)
    assert ours.t == 2 * math.pi
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=0, atol=1e-4)


def test_a_trained_stepper_takes_the_steps_that_the_engine_takes(tmp_path: Path) -> None:
    stepper, states = small_stepper("leading_error")
    save_checkpoint(tmp_path / "model.pt", stepper.model, config=stepper.config)
    simulation = rebound.Simulation()
    for m, x, v in zip(states.mass[0], states.position[0], states.velocity[0], strict=True):
        place = dict(zip(("x", "y", "z", "vx", "vy", "vz"), (*x, *v), strict=True))
        simulation.add(m=float(m), **{name: float(value) for name, value in place.items()})
    simulation.dt = 1.0  # longer than the stepper's
    use(simulation, tmp_path / "model.pt", accuracy=1e-6)
    simulation.integrate(0.05)
    system = NativeSystem(
        *(part[0].numpy() for part in (states.mass, states.position, states.velocity))
    )
    rule = NativeRule(1e-6, stepper=weights_of(stepper.model, "leading_error"))
    expected = run_natively(system, "hermite4", rule, 0.05)
    assert simulation.integrator.steps == expected.steps
    assert simulation.integrator.outside >= expected.outside
    np.testing.assert_allclose(numbers(simulation)[:, :3], expected.position, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chosen", [HERMITE, LEAPFROG])
def test_an_archive_goes_on_bit_for_bit(chosen: dict[str, Any], tmp_path: Path) -> None:
    simulation = binary()
    use(simulation, **chosen)
    simulation.steps(50)
    simulation.save_to_file(str(tmp_path / "archive.bin"))
    again = rebound.Simulation(str(tmp_path / "archive.bin"))
    assert again.integrator.steps == 50
    for one in (simulation, again):
        one.steps(50)
    np.testing.assert_array_equal(numbers(simulation), numbers(again))


def test_a_stepper_is_in_the_archive(tmp_path: Path) -> None:
    stepper, _ = small_stepper("dimensionless")
    save_checkpoint(tmp_path / "model.pt", stepper.model, config=stepper.config)
    simulation = binary()
    use(simulation, tmp_path / "model.pt")
    simulation.steps(5)
    simulation.save_to_file(str(tmp_path / "archive.bin"))
    (tmp_path / "model.pt").unlink()
    again = rebound.Simulation(str(tmp_path / "archive.bin"))
    for one in (simulation, again):
        one.steps(5)
    np.testing.assert_array_equal(numbers(simulation), numbers(again))


@pytest.mark.parametrize("chosen", [HERMITE, LEAPFROG])
def test_units_change_nothing(chosen: dict[str, Any]) -> None:
    G, length = 6.674e-11, 1.5e11
    ours, scaled = binary(), binary(G, length)
    for simulation in (ours, scaled):
        use(simulation, **chosen)
        simulation.dt = simulation.particles[1].P
        simulation.steps(40)
    np.testing.assert_allclose(numbers(scaled)[:, :3] / length, numbers(ours)[:, :3], atol=1e-9)
    assert scaled.integrator.steps == ours.integrator.steps


def test_running_back_leads_to_where_it_began() -> None:
    simulation = binary()
    begin = numbers(simulation)
    use(simulation, **LEAPFROG)
    simulation.integrate(3.0)
    simulation.dt = -abs(simulation.dt)
    simulation.integrate(0.0)
    np.testing.assert_allclose(numbers(simulation), begin, rtol=0, atol=1e-5)


def test_test_particles_feel_and_do_not_pull() -> None:
    with_one, without = binary(), binary()
    with_one.add(m=0.5, a=3.0)  # its mass counts for nothing
    with_one.N_active = 3
    with_one.testparticle_hidewarnings = 1
    for simulation in (with_one, without):
        use(simulation, **HERMITE)
        simulation.integrate(1.0)
    np.testing.assert_allclose(numbers(with_one)[:3], numbers(without), rtol=0, atol=1e-6)
    theirs = binary()
    theirs.add(m=0.5, a=3.0)
    theirs.N_active = 3
    theirs.testparticle_hidewarnings = 1
    theirs.integrate(1.0)
    np.testing.assert_allclose(numbers(with_one)[3], numbers(theirs)[3], rtol=0, atol=1e-5)


def test_particles_that_are_moved_added_or_removed_are_taken_over() -> None:
    simulation = binary()
    use(simulation, **HERMITE)
    simulation.integrate(0.5)
    simulation.particles[2].vx += 0.01
    simulation.integrate(0.6)
    simulation.add(m=0.001, a=30.0)
    simulation.integrate(0.7)
    simulation.remove(3)
    energy = simulation.energy()
    simulation.integrate(1.5)
    assert abs(simulation.energy() / energy - 1) < 1e-5


def test_what_it_cannot_do_it_says() -> None:
    simulation = binary()
    use(simulation, **HERMITE)
    simulation.additional_forces = lambda _: None
    with pytest.raises(RuntimeError, match="additional_forces"):
        simulation.integrate(1.0)
    alone = rebound.Simulation()
    alone.add(m=1.0)
    use(alone, **HERMITE)
    with pytest.raises(RuntimeError, match="two particles"):
        alone.integrate(1.0)


def test_accuracy_can_be_tuned_and_a_smaller_one_is_better() -> None:
    errors = []
    for accuracy in (0.1, 0.01):
        simulation = binary()
        use(simulation, **HERMITE)
        simulation.integrator.accuracy = accuracy
        energy = simulation.energy()
        simulation.integrate(2 * math.pi * PERIODS)
        errors.append(abs(simulation.energy() / energy - 1))
    assert errors[1] < 1e-3 * errors[0]


def test_neither_a_stepper_nor_a_criterion_is_an_error() -> None:
    with pytest.raises(ValueError, match="criterion"):
        use(binary(), integrator="hermite4")
    with pytest.raises(ValueError, match="not both"):
        use(binary(), "stepper.pt", criterion="free fall")


def test_without_a_compiler_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompilerMissing, match="apt-get install gcc"):
        find_compiler()


def test_the_plugin_is_loaded_once() -> None:
    assert register() is register()
