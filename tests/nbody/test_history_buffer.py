"""Past states as network input: padded with zeros, oldest first, one history for each system."""

import itertools

import pytest
import torch
from torch import Tensor

from nbody.features.dimensionless import dimensionless_features
from nbody.features.original import delta_features, system_features
from nbody.history_buffer import HistoryBuffer
from nbody.particle import ParticleTorch, stack_particles


def single(seed: int) -> ParticleTorch:
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    mass = 0.5 + torch.rand(3, generator=generator, dtype=torch.float64)
    particle = ParticleTorch.from_tensors(mass, position, velocity, dt=0.1 * (seed + 1))
    particle.get_acceleration()
    return particle


def batch(*seeds: int) -> ParticleTorch:
    particle = stack_particles([single(seed) for seed in seeds])
    particle.get_acceleration()
    return particle


def basic(seed: int) -> Tensor:
    state = single(seed)
    return system_features(state.position, state.velocity, state.mass, 0.0, "basic")


def delta(*seeds: int) -> Tensor:
    states = [single(seed) for seed in seeds]
    series = [torch.stack([getattr(s, f"{name}") for s in states]) for name in SERIES]
    return delta_features(*series).flatten()


SERIES = ("position", "velocity", "acceleration", "dt")


def test_states_stand_oldest_to_newest_with_the_current_one_last() -> None:
    buffer = HistoryBuffer(3, "basic")
    for seed in (0, 1, 2, 3, 4):
        buffer.push(single(seed))
    expected = torch.cat([basic(seed) for seed in (2, 3, 4, 5)])
    torch.testing.assert_close(buffer.features_for(single(5)), expected)


def test_missing_states_are_zeros_in_feature_space_and_come_first() -> None:
    buffer = HistoryBuffer(3, "basic")
    zeros = torch.zeros(11, dtype=torch.float64)
    torch.testing.assert_close(
        buffer.features_for(single(5)), torch.cat([zeros, zeros, zeros, basic(5)])
    )
    buffer.push(single(0))
    torch.testing.assert_close(
        buffer.features_for(single(5)), torch.cat([zeros, zeros, basic(0), basic(5)])
    )


def test_delta_features_describe_each_pair_of_consecutive_states() -> None:
    buffer = HistoryBuffer(2, "delta_mag")
    zeros = torch.zeros(10, dtype=torch.float64)
    torch.testing.assert_close(buffer.features_for(single(5)), torch.cat([zeros, zeros]))
    buffer.push(single(0))
    torch.testing.assert_close(buffer.features_for(single(5)), torch.cat([zeros, delta(0, 5)]))
    buffer.push(single(1))
    torch.testing.assert_close(buffer.features_for(single(5)), delta(0, 1, 5))


def test_dimensionless_history_ends_with_the_time_scale_of_the_current_state() -> None:
    buffer = HistoryBuffer(2, "dimensionless")
    buffer.push(single(0))
    current = single(5)
    features = buffer.features_for(current)
    own = dimensionless_features(current.position, current.velocity, current.mass, 0.0)
    torch.testing.assert_close(features[-12:], own)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_dimensionless_history_scales_with_the_system_in_its_last_column_only(
    scale: float,
) -> None:
    """Otherwise the log head's dt would not scale as lambda^1.5."""
    found = []
    for factor in (1.0, scale):
        buffer = HistoryBuffer(2, "dimensionless")
        for seed in (0, 1, 5):
            state = single(seed)
            state = ParticleTorch.from_tensors(
                state.mass,
                factor * state.position,
                factor**-0.5 * state.velocity,
                dt=factor**1.5 * state.dt,
            )
            found.append(buffer.features_for(state))
            buffer.push(state)
    for plain, scaled in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(scaled[:-1], plain[:-1], rtol=1e-9, atol=1e-9)
        assert float((scaled - plain)[-1]) == pytest.approx(1.5 * float(torch.tensor(scale).log()))


def test_each_system_of_a_batch_has_its_own_history() -> None:
    buffer = HistoryBuffer(2, "basic")
    buffer.push(batch(0, 1))
    buffer.push(batch(2, 3))
    features = buffer.features_for(batch(4, 5))
    assert features.shape == (2, 33)
    for row, seeds in enumerate([(0, 2, 4), (1, 3, 5)]):
        torch.testing.assert_close(features[row], torch.cat([basic(seed) for seed in seeds]))


def test_a_masked_push_reaches_only_the_systems_of_the_mask() -> None:
    buffer = HistoryBuffer(2, "basic")
    buffer.push(batch(0, 1))
    buffer.push(batch(2, 3), mask=torch.tensor([False, True]))
    features = buffer.features_for(batch(4, 5))
    zeros = torch.zeros(11, dtype=torch.float64)
    torch.testing.assert_close(features[0], torch.cat([zeros, basic(0), basic(4)]))
    torch.testing.assert_close(features[1], torch.cat([basic(1), basic(3), basic(5)]))
    assert len(buffer) == 1


def test_a_history_of_one_system_serves_every_system_of_a_batch() -> None:
    buffer = HistoryBuffer(1, "basic")
    buffer.push(single(0))
    features = buffer.features_for_batch(batch(4, 5))
    for row, seed in enumerate((4, 5)):
        torch.testing.assert_close(features[row], torch.cat([basic(0), basic(seed)]))
    assert buffer.features_for_batch(single(4)).shape == (1, 22)


def test_its_length_counts_what_it_knows_up_to_its_capacity() -> None:
    buffer = HistoryBuffer(2, "basic")
    lengths = [len(buffer)]
    for seed in range(4):
        buffer.push(single(seed))
        lengths.append(len(buffer))
    assert lengths == [0, 1, 2, 2, 2]


def test_a_reset_buffer_is_as_new() -> None:
    buffer = HistoryBuffer(2, "basic")
    buffer.push(single(0))
    buffer.reset()
    assert len(buffer) == 0
    torch.testing.assert_close(
        buffer.features_for(single(5)), HistoryBuffer(2, "basic").features_for(single(5))
    )
    buffer.push(batch(0, 1))  # another number of systems is welcome
    assert buffer.features_for(batch(2, 3)).shape == (2, 33)


def test_what_was_pushed_stays_though_the_particle_moves_on() -> None:
    buffer = HistoryBuffer(1, "basic")
    particle = single(0)
    buffer.push(particle)
    particle.evolve_batch()
    particle.position.zero_()
    torch.testing.assert_close(buffer.features_for(single(5)), torch.cat([basic(0), basic(5)]))


def test_asking_for_features_does_not_change_the_history() -> None:
    buffer = HistoryBuffer(2, "basic")
    buffer.push(single(0))
    first, second = (buffer.features_for(single(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert len(buffer) == 1


@pytest.mark.parametrize("feature_type", ["basic", "rich", "delta_mag", "dimensionless"])
def test_padding_gives_finite_features_without_softening(feature_type: str) -> None:
    buffer = HistoryBuffer(3, feature_type)
    for seed in range(4):
        assert torch.isfinite(buffer.features_for(single(seed))).all()
        buffer.push(single(seed))


def test_the_width_does_not_depend_on_what_is_known() -> None:
    for feature_type in ("basic", "rich", "delta_mag", "dimensionless"):
        buffer = HistoryBuffer(2, feature_type)
        widths = []
        for seed in range(3):
            widths.append(buffer.features_for(single(seed)).shape)
            buffer.push(single(seed))
        assert all(a == b for a, b in itertools.pairwise(widths))


def test_its_state_can_be_kept_and_restored() -> None:
    buffer, restored = HistoryBuffer(2, "delta_mag"), HistoryBuffer(2, "delta_mag")
    buffer.push(batch(0, 1))
    buffer.push(batch(2, 3), mask=torch.tensor([True, False]))
    restored.load_state_dict(buffer.state_dict())
    for _ in range(2):
        assert torch.equal(restored.features_for(batch(4, 5)), buffer.features_for(batch(4, 5)))
        for one in (buffer, restored):
            one.push(batch(6, 7))


def test_features_know_the_gate_of_the_state() -> None:
    history, strict, loose = HistoryBuffer(1, "error_series"), single(1), single(1)
    strict.energy_threshold = torch.tensor(1e-8, dtype=torch.float64)
    loose.energy_threshold = torch.tensor(1e-2, dtype=torch.float64)
    assert not torch.equal(history.features_for(strict), history.features_for(loose))
