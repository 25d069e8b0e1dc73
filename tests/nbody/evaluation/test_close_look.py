"""What scores are made of: the states on which a stepper fails, and the training on them."""

import json
from typing import Any

import pytest
import torch

from nbody.config import Config
from nbody.evaluation.close_look import MOST_NUMBERS, close_look
from nbody.evaluation.held_out import HeldOut
from nbody.evaluation.score import held_out_for
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.hard_systems import held_out_shift
from nbody.particle import make_particle
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun

CONFIG = Config(
    num_orbits=8, resample_each_epoch=True, seed=5, mass=2.0, replay_steps=4, max_retrain_steps=4
).model_copy(update={"epochs": 1})
PAIR = [[1.0, 0.5, 0.0, 0.0, 0.25], [1.0, -0.5, 0.0, 0.0, -0.25]]
OTHER = [[3.0, 0.1, 0.0, 0.0, 0.5], [1.0, -0.3, 0.0, 0.0, -1.5]]


def an_untrained_one(**changes: Any) -> Stepper:
    run = TrainingRun.start(Config.model_validate(CONFIG.model_dump() | changes))
    return Stepper(run.model, run.adapter)


def too_long_near_pericentre(part: HeldOut) -> torch.Tensor:
    """The oracle's steps, and twice as much where two bodies are near each other."""
    separation = part.states.position.diff(dim=1).square().sum(-1).sqrt().squeeze(1)
    return part.dt_star * torch.where(separation < 0.5, 2.0, 0.5)


def the_oracle(part: HeldOut) -> torch.Tensor:
    return 0.9 * part.dt_star


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return held_out_for(an_untrained_one(), seed=1, systems=6)


def test_violations_are_told_orbit_by_orbit_the_worst_first(held_out: HeldOut) -> None:
    rules = {"stepper": too_long_near_pericentre, "oracle": the_oracle}
    look = close_look(held_out, rules, {"stepper": 1.0, "oracle": 1.0})
    errors = held_out.energy_errors(too_long_near_pericentre(held_out))
    assert look["violations"] == int((errors >= held_out.threshold).sum()) > 0
    assert look["states"] == len(errors)
    orbits = look["orbits"]
    assert len(orbits) == look["systems_with_violations"]
    told = [max(orbit["energy_error"]) for orbit in orbits]
    assert told == sorted(told, reverse=True)
    assert sum(e >= o["threshold"] for o in orbits for e in o["energy_error"]) == look["violations"]
    json.dumps(look, allow_nan=False)


def test_an_orbit_holds_the_states_themselves(held_out: HeldOut) -> None:
    rules = {"stepper": too_long_near_pericentre}
    orbit = close_look(held_out, rules, {"stepper": 1.0}, newton=2.0)["orbits"][0]
    own = held_out.take(held_out.system == orbit["system"])
    assert torch.allclose(torch.tensor(orbit["position"]).double(), own.states.position, rtol=1e-6)
    assert orbit["mass"] == pytest.approx((own.states.mass[0] / 2).tolist(), rel=1e-8)
    assert len(orbit["dt"]) == len(orbit["dt_star"]) == len(own.dt_star)


def test_a_histogram_counts_every_state_once(held_out: HeldOut) -> None:
    def nothing(part: HeldOut) -> torch.Tensor:
        return torch.full_like(part.dt_star, torch.nan)

    rules = {"stepper": too_long_near_pericentre, "oracle": the_oracle, "none": nothing}
    look = close_look(held_out, rules, {"stepper": 1.0, "oracle": 1.0, "none": 1.0})
    edges, shares = look["ratios"]["edges"], look["ratios"]["shares"]
    assert all(sum(values) == pytest.approx(1) for values in shares.values())
    where = shares["oracle"].index(max(shares["oracle"]))
    assert edges[where] <= 0.9 < edges[where + 1]
    assert shares["none"][-1] == 1  # no step is too long for any bin


def test_a_step_that_is_no_number_violates_and_is_told(held_out: HeldOut) -> None:
    def nothing(part: HeldOut) -> torch.Tensor:
        return torch.full_like(part.dt_star, torch.nan)

    look = close_look(held_out, {"stepper": nothing}, {"stepper": 1.0})
    assert look["violations"] == look["states"]
    assert len(look["orbits"]) == look["systems"]


@pytest.mark.slow
def test_many_bodies_do_not_make_a_large_file() -> None:
    config = {"initial_conditions": "plummer", "num_particles": 48, "num_systems": 2, "dim": 3}
    stepper = an_untrained_one(**config, num_orbits=8, mass=1.0)
    held = held_out_for(stepper, seed=1, systems=2)
    look = close_look(held, {"stepper": lambda part: 3 * part.dt_star}, {"stepper": 1.0})
    assert look["systems_with_violations"] == 2
    numbers = sum(torch.tensor(orbit["position"]).numel() * 2 for orbit in look["orbits"])
    assert 0 < numbers <= MOST_NUMBERS


def with_hard(**changes: Any) -> Config:
    fields = {"hard_systems": [PAIR, OTHER], "hard_share": 0.5}
    return Config.model_validate(CONFIG.model_dump() | fields | changes)


def test_a_share_of_every_draw_are_hard_systems() -> None:
    drawn = [initial_particle(with_hard(), seed=1, epoch=epoch) for epoch in range(20)]
    known = [make_particle(rows) for rows in (PAIR, OTHER)]
    seen: set[int] = set()
    for batch in drawn:
        separations = batch.position.diff(dim=1).squeeze(1)
        which = [
            [torch.allclose(row, one.position.diff(dim=0).squeeze(0)) for one in known]
            for row in separations
        ]
        assert [any(row) for row in which] == [True] * 4 + [False] * 4
        seen |= {row.index(True) for row in which[:4]}
        assert torch.allclose(
            (batch.mass[..., None] * batch.velocity).sum(1), torch.zeros(8, 2).double(), atol=1e-12
        )
    assert seen == {0, 1}
    assert drawn[0].period is not None


def test_without_hard_systems_draws_are_what_they_were() -> None:
    plain = initial_particle(CONFIG, seed=1)
    mixed = initial_particle(with_hard(), seed=1)
    assert torch.equal(plain.position[4:], mixed.position[4:])


def test_masses_of_hard_systems_are_in_the_units_of_the_config() -> None:
    mixed = initial_particle(with_hard(G=3.0), seed=1)
    assert {3.0, 9.0} >= set(mixed.mass[:4].flatten().tolist())


def test_a_stepper_is_not_scored_on_what_it_was_trained_on() -> None:
    plain = held_out_for(an_untrained_one(), seed=1, systems=3)
    trained = an_untrained_one(hard_systems=[PAIR, OTHER], hard_share=1.0)
    other = held_out_for(trained, seed=1, systems=3)
    assert not torch.isclose(plain.states.position, other.states.position).all(-1).any()
    assert held_out_shift(with_hard()) != held_out_shift(with_hard(hard_systems=[PAIR]))
    masses = other.states.mass
    assert torch.equal(masses, torch.full_like(masses, 2.0))  # of the population, not of OTHER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample_each_epoch": False}, "drawn afresh"),
        ({"num_orbits": 1}, "above 1"),
        ({"hard_systems": [[*PAIR, [1.0, 3.0, 0.0, 0.0, 0.0]]]}, "of system 0: 2 rows of 5"),
        ({"hard_systems": [PAIR, [PAIR[0], PAIR[0]]]}, "of system 1: two bodies at one place"),
        ({"hard_systems": [[[0.0, *row[1:]] for row in PAIR]]}, "massless"),
        ({"hard_systems": [PAIR] * 1025}, "at most 1024"),
        ({"hard_systems": []}, "at least 1"),
        ({"hard_share": 0.0}, "greater than 0"),
    ],
)
def test_hard_systems_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_hard(**changes)


def test_a_run_goes_on_with_hard_systems(tmp_path: Any) -> None:
    from nbody.unified_training import epochs

    first = TrainingRun.start(CONFIG)
    assert list(epochs(first))
    path = first.save(tmp_path / "one.pt")
    more = TrainingRun.resume(with_hard(epochs=2), path)
    assert list(epochs(more))
    began = initial_particle(with_hard(), seed=5, epoch=1)
    assert torch.allclose(began.position[0], make_particle(PAIR).position) or torch.allclose(
        began.mass[0], make_particle(OTHER).mass
    )
