"""Newton's constant by the name of a system of units, and what cannot be meant."""

import math

import pytest
import torch

from nbody.config import Config
from nbody.config.units import newton
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.finished import Simulation
from nbody.simulation.run import simulate

# The Sun and the Earth at perihelion, in kg, m, s.
SI = [[1.98841e30, 0.0, 0.0, 0.0, 0.0], [5.9722e24, 1.4710e11, 0.0, 0.0, 30287.0]]
YEAR = 365.25 * 86400
LENGTH = 1.495978707e11


def in_years() -> list[list[float]]:
    return [
        [m / 1.98841e30, x / LENGTH, y / LENGTH, vx * YEAR / LENGTH, vy * YEAR / LENGTH]
        for m, x, y, vx, vy in SI
    ]


def run(rows: list[list[float]], units: str | float, **fields: object) -> Simulation:
    given = {"initial_conditions": "inline", "particles": rows, "G": units, "device": "cpu"}
    config = Config.model_validate(given | {"eta": 0.02} | fields)
    return simulate(config, initial_particle(config))


def test_the_constants_are_those_of_the_handbooks() -> None:
    assert newton("AU/Msun/yr") == pytest.approx(4 * math.pi**2, rel=1e-4)
    assert newton("AU/Msun/day") == pytest.approx(0.01720209895**2, rel=1e-4)  # Gauss
    assert newton("pc/Msun/Myr") == pytest.approx(4.4985e-3, rel=1e-4)
    assert newton("henon") == 1
    assert newton(7.0) == 7


def test_the_earth_needs_a_year_in_any_units() -> None:
    metric = run(SI, "SI", duration=YEAR)
    annual = run(in_years(), "AU/Msun/yr", duration=1.0)
    assert metric.steps == pytest.approx(annual.steps, abs=2)
    for found, scale in ((metric, LENGTH), (annual, 1.0)):
        moved = (found.position[-1, 1] - found.position[0, 1]).norm() / scale
        assert float(moved) < 0.02
        orbit = found.report()["systems"][0]["orbits"]["final"][1]
        assert orbit["semi_major_axis"] / scale == pytest.approx(1.0, abs=2e-3)
        assert orbit["eccentricity"] == pytest.approx(0.0167, abs=2e-3)
    torch.testing.assert_close(metric.mass, torch.tensor([row[0] for row in SI]).double())
    energy = metric.report()["systems"][0]["energy"][0]
    assert energy == pytest.approx(-6.6743e-11 * 1.98841e30 * 5.9722e24 / (2 * LENGTH), rel=1e-2)


def test_rows_in_units_that_do_not_fit_are_doubted() -> None:
    def told(**fields: object) -> list[str]:
        given = {"initial_conditions": "inline", "particles": SI, "device": "cpu"} | fields
        return [text for text in Config.model_validate(given).warnings() if "unit" in text]

    assert len(told()) == 1
    assert told(G="SI") == []
    assert len(told(G="SI", dt=1e12, integrator_mode="fixed")) == 1
    assert told(G="SI", dt=3600.0, integrator_mode="fixed") == []
    assert told(particles=[[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]]) == []  # at rest
    assert "set G=AU/Msun/yr" in told(particles=in_years())[0]
    alone = [in_years()[0], [0.0, *in_years()[1][1:]]]
    assert "set G=AU/Msun/yr" in told(particles=alone)[0]  # the Earth weighs nothing
    assert told(particles=in_years(), G="AU/Msun/yr") == []
    flyby = [[1.0, -50.0, 1.0, 1.5, 0.0], [1.0, 50.0, -1.0, -1.5, 0.0]]
    assert told(particles=flyby) == []
    hyperbola = [[0.5, -8.0, 2.0, 0.8, -0.1], [0.5, 8.0, -2.0, -0.8, 0.1]]  # K/|U| of AU and years
    assert told(particles=hyperbola) == []


def test_a_system_with_units_of_its_own_has_no_other() -> None:
    with pytest.raises(ValueError, match="G"):
        Config(initial_conditions="figure_eight", G="SI")
    with pytest.raises(ValueError, match="G"):
        Config(G=-1.0)


def test_a_step_is_the_same_in_other_units() -> None:
    one = initial_particle(Config(initial_conditions="kepler", G=4.0, device="cpu"))
    other = initial_particle(Config(initial_conditions="kepler", mass=4.0, device="cpu"))
    torch.testing.assert_close(one.velocity, other.velocity)
    torch.testing.assert_close(one.period, other.period)
