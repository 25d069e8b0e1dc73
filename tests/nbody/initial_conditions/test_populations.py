"""Random populations: what is drawn, that it is bound, and that old systems make way."""

import pytest
import torch

from nbody.config import Config
from nbody.gravity.invariants import energies, momentum
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.renewal import crossing_time, renew
from nbody.particle import ParticleTorch
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

KINDS = ("random_bound", "hierarchical_triple", "figure_eight_family", "plummer", "random")


def drawn(kind: str, **fields: object) -> ParticleTorch:
    config = Config.model_validate(
        {"initial_conditions": kind, "num_systems": 50, "dim": 3, "device": "cpu", **fields}
    )
    return initial_particle(config, seed=4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_is_one_batch_with_its_centre_of_mass_at_rest(kind: str) -> None:
    particle = drawn(kind)
    assert particle.position.shape[0] == 50
    drift = momentum(particle.velocity, particle.mass).abs()
    assert float(drift.max()) < 1e-12
    again, other = (
        drawn(kind),
        initial_particle(
            Config.model_validate({"initial_conditions": kind, "num_systems": 50, "dim": 3}), seed=5
        ),
    )
    assert torch.equal(again.position, particle.position)
    assert not torch.equal(other.position, particle.position)


@pytest.mark.parametrize("kind", ["random_bound", "hierarchical_triple", "figure_eight_family"])
def test_every_system_is_bound(kind: str) -> None:
    assert float(drawn(kind).total_energy_batch().max()) < 0


def test_the_kinetic_share_of_random_bound_systems_is_spread() -> None:
    particle = drawn("random_bound", num_particles=4, mass_ratio_min=1e-2)
    kinetic, potential = energies(particle.position, particle.velocity, particle.mass)
    share = kinetic / potential.abs()
    assert 0.1 <= float(share.min()) < 0.2
    assert 0.8 < float(share.max()) <= 0.9
    assert float(particle.mass.min()) >= 1e-2
    assert float(particle.mass.min()) < 0.05


def test_triples_stay_hierarchical() -> None:
    particle = drawn("hierarchical_triple", mass_ratio_min=0.1)
    inner = (particle.position[:, 0] - particle.position[:, 1]).norm(dim=-1)
    outer = (particle.position[:, 2] - particle.position[:, :2].mean(1)).norm(dim=-1)
    assert float((outer / inner).min()) > 1


def test_unequal_masses_keep_the_orbit() -> None:
    config = Config(mass_ratio_min=1e-3, num_orbits=64, device="cpu")
    particle = initial_particle(config, seed=1)
    ratio = particle.mass[:, 1] / particle.mass[:, 0]
    assert 1e-3 <= float(ratio.min()) < 0.1 < 0.5 < float(ratio.max()) <= 1
    kinetic, potential = energies(particle.position, particle.velocity, particle.mass)
    semi_major = -particle.mass.prod(-1) / (2 * (kinetic + potential))
    assert 0.8 <= float(semi_major.min()) <= float(semi_major.max()) <= 1.2


def test_a_system_past_its_lifetime_is_replaced_and_others_evolve_on() -> None:
    evolved, fresh = drawn("random_bound"), drawn("random_bound", pos_scale=0.3)
    evolved.current_time = torch.zeros(50, dtype=torch.float64)
    evolved.current_time[::2] = 3.1 * crossing_time(evolved)[::2]
    mixed = renew(evolved, fresh, lifetime=3.0)
    assert torch.equal(mixed.position[::2], fresh.position[::2])
    assert torch.equal(mixed.position[1::2], evolved.position[1::2])
    assert float(mixed.current_time[::2].max()) == 0


def test_renewed_orbits_know_their_periods() -> None:
    evolved, fresh = drawn("kepler_ensemble"), drawn("kepler_ensemble", a_min=2.0, a_max=3.0)
    assert evolved.period is not None
    assert fresh.period is not None
    evolved.current_time = torch.zeros(len(evolved.period), dtype=torch.float64)
    evolved.current_time[::2] = 1e6
    mixed = renew(evolved, fresh, lifetime=3.0)
    assert mixed.period is not None
    assert torch.equal(mixed.period[::2], fresh.period[::2])
    assert torch.equal(mixed.period[1::2], evolved.period[1::2])


def test_each_system_has_a_threshold_of_its_own_and_the_gate_keeps_it() -> None:
    config = Config(
        num_orbits=40,
        energy_threshold=1e-6,
        energy_threshold_max=1e-2,
        steps_per_epoch=4,
        replay_steps=2,
        hidden_dims=[8],
        epochs=1,
        seed=3,
        device="cpu",
        evaluation_orbits=0,
    )
    run = TrainingRun.start(config)
    threshold = run.particle.energy_threshold
    assert threshold is not None
    assert 1e-6 <= float(threshold.min()) < 1e-5 < 1e-3 < float(threshold.max()) <= 1e-2
    from nbody.trajectory_collection import collect_trajectory

    trajectory, _ = collect_trajectory(run.model, run.particle, run.optimizer, config, run.adapter)
    own = trajectory.states.threshold
    assert own is not None
    assert bool((trajectory.states.step(trajectory.dt).energy_error < own).all())
    tight, loose = own < 1e-5, own > 1e-3
    assert float(trajectory.dt[tight].mean()) < float(trajectory.dt[loose].mean())
    assert len(list(epochs(run))) == 1


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("energy_threshold_max", {"energy_threshold": 1e-3, "energy_threshold_max": 1e-4}),
        ("energy_threshold_max", {"feature_type": "rich", "energy_threshold_max": 1e-2}),
        ("lifetime", {"lifetime": 2.0}),
        ("lifetime", {"initial_conditions": "figure_eight", "lifetime": 2.0}),
        ("num_systems", {"initial_conditions": "pythagorean", "num_systems": 4}),
    ],
)
def test_a_population_that_makes_no_sense_is_refused(field: str, fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=field):
        Config.model_validate(fields)


def test_softened_systems_are_bound_too() -> None:
    particle = drawn("random_bound", softening=0.2, pos_scale=0.1, num_systems=200)
    assert (particle.total_energy_batch() < 0).all()
