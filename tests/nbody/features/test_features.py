"""What the network sees: the original's statistics, recomputed by loops, and our invariants."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nbody.config import Config
from nbody.features.dimensionless import dimensionless_features
from nbody.features.original import delta_features, system_features
from nbody.gravity.free_fall import free_fall_time
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch

State = tuple[Tensor, Tensor, Tensor]
Row = list[float]


def random_state(n: int = 4, dim: int = 3, seed: int = 0) -> State:
    """A bound-ish system, off centre and moving: position, velocity (N, D), unequal masses (N,)."""
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, n, dim, generator=generator, dtype=torch.float64)
    mass = 0.5 + torch.rand(n, generator=generator, dtype=torch.float64)
    return position + 2.0, 0.5 * velocity + 1.0, mass


def mean(values: Row) -> float:
    return sum(values) / len(values)


def rms(values: Row) -> float:
    return math.sqrt(mean([v * v for v in values]) + 1e-12)


def statistics_of(state: State, softening: float) -> dict[str, Row]:
    """Radii and speeds in the centre-of-mass frame, |a| and softened pair distances, as lists."""
    x, v, m = (values.tolist() for values in state)
    n, dim = len(m), len(x[0])

    def relative(rows: list[Row]) -> list[Row]:
        centre = [sum(m[i] * rows[i][k] for i in range(n)) / sum(m) for k in range(dim)]
        return [[row[k] - centre[k] for k in range(dim)] for row in rows]

    accelerations = [[0.0] * dim for _ in range(n)]
    for i in range(n):
        for j in set(range(n)) - {i}:
            cube = (math.dist(x[i], x[j]) ** 2 + softening**2) ** 1.5
            for k in range(dim):
                accelerations[i][k] += m[j] * (x[j][k] - x[i][k]) / cube
    return {
        "mass": m,
        "radius": [math.hypot(*row) for row in relative(x)],
        "speed": [math.hypot(*row) for row in relative(v)],
        "acceleration": [math.hypot(*row) for row in accelerations],
        "distance": [
            math.hypot(math.dist(x[i], x[j]), softening) for i in range(n) for j in range(i + 1, n)
        ],
    }


@pytest.mark.parametrize(("dim", "softening"), [(2, 0.0), (3, 0.3)])
def test_the_basic_features_are_the_eleven_of_the_original(dim: int, softening: float) -> None:
    state = random_state(dim=dim)
    s = statistics_of(state, softening)
    expected = [4, dim, sum(s["mass"])]
    for name in ("radius", "speed", "acceleration"):
        expected += [mean(s[name]), max(s[name])]
    expected += [min(s["distance"]), mean(s["distance"])]
    assert system_features(*state, softening, "basic").tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("dim", "softening"), [(2, 0.0), (3, 0.3)])
def test_the_rich_features_are_the_twenty_three_of_the_original(dim: int, softening: float) -> None:
    state = random_state(dim=dim)
    s = statistics_of(state, softening)
    expected = [4, dim, sum(s["mass"])]
    for name in ("mass", "radius", "speed", "acceleration"):
        expected += [mean(s[name]), min(s[name]), max(s[name]), rms(s[name])]
    expected += [min(s["distance"]), mean(s["distance"]), max(s["distance"]), softening]
    assert system_features(*state, softening, "rich").tolist() == pytest.approx(expected)


def test_the_delta_features_are_the_ten_of_the_original_for_each_pair_of_states() -> None:
    generator = torch.Generator().manual_seed(0)
    series = torch.randn(3, 4, 5, 2, generator=generator, dtype=torch.float64)  # x, v, a
    dt = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    expected = []
    for k in range(3):
        row: Row = []
        for values in series.tolist():
            sizes = [math.dist(a, b) for a, b in zip(values[k], values[k + 1], strict=True)]
            row += [mean(sizes), max(sizes), rms(sizes)]
        expected.append([*row, float(dt[k + 1])])

    found = delta_features(*series, dt)

    assert found.shape == (3, 10)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["basic", "rich"])
def test_the_features_of_a_batch_are_those_of_its_systems(mode: str) -> None:
    states = [random_state(seed=seed) for seed in range(3)]
    batch = [torch.stack(parts) for parts in zip(*states, strict=True)]
    for features in (
        lambda *state: system_features(*state, 0.1, mode),
        lambda *state: dimensionless_features(*state, 0.1),
    ):
        together = features(*batch)
        for row, state in enumerate(states):
            torch.testing.assert_close(together[row], features(*state))


def rotated(state: State) -> State:
    generator = torch.Generator().manual_seed(9)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return state[0] @ turn.T, state[1] @ turn.T, state[2]


def renumbered(state: State) -> State:
    position, velocity, mass = (values[torch.tensor([2, 0, 3, 1])] for values in state)
    return position, velocity, mass


def boosted(state: State) -> State:
    return state[0], state[1] + torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64), state[2]


def shifted(state: State) -> State:
    return state[0] + torch.tensor([-30.0, 1.0, 2.0], dtype=torch.float64), state[1], state[2]


@pytest.mark.parametrize("softening", [0.0, 0.4])
@pytest.mark.parametrize("change", [rotated, renumbered, boosted, shifted])
def test_the_dimensionless_features_are_invariant_under(
    change: Callable[[State], State], softening: float
) -> None:
    state = random_state()
    found, expected = (dimensionless_features(*s, softening) for s in (change(state), state))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("length", "mass_unit"), [(1e-4, 1.0), (50.0, 1.0), (3.0, 1e6)])
def test_a_change_of_units_changes_only_the_time_scale(length: float, mass_unit: float) -> None:
    position, velocity, mass = random_state()
    speed = math.sqrt(mass_unit / length)
    found = dimensionless_features(
        length * position, speed * velocity, mass_unit * mass, length * 0.2
    )
    expected = dimensionless_features(position, velocity, mass, 0.2)
    expected[-1] += math.log(length / speed)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_they_tell_inbound_from_outbound_by_the_sign_of_r_dot_v() -> None:
    position, velocity, mass = random_state()
    centre = (mass[:, None] * velocity).sum(0) / mass.sum()
    outbound, inbound = velocity - centre, centre - velocity
    there = dimensionless_features(position, outbound, mass, 0.0)
    back = dimensionless_features(position, inbound, mass, 0.0)
    odd = (there + back).abs() < 1e-12
    assert bool((odd & (there.abs() > 1e-3)).any())
    assert float(there[-1]) == pytest.approx(float(back[-1]))


def two_bodies(radius: float, e: float) -> State:
    """Unit masses, a = 1, so E = -1/2 and phi = -1/r, at pericentre-ward distance `radius`."""
    speed, spin = math.sqrt(2 * (2 / radius - 1)), math.sqrt(2 * (1 - e * e))
    across = spin / radius
    along = -math.sqrt(max(speed**2 - across**2, 0.0))
    x = torch.tensor([radius, 0.0], dtype=torch.float64)
    v = torch.tensor([along, across], dtype=torch.float64)
    return torch.stack([x / 2, -x / 2]), torch.stack([v / 2, -v / 2]), torch.ones(2).double()


def test_they_know_the_depth_in_the_potential() -> None:
    """One column orders bound states of three bodies as |phi|/|E| does."""
    rows, depth = [], []
    for seed in range(40):
        position, velocity, mass = random_state(3, seed=seed)
        velocity = 0.1 * (velocity - (mass[:, None] * velocity).sum(0) / mass.sum())
        kinetic = 0.5 * float((mass[:, None] * velocity**2).sum())
        phi = sum(
            float(mass[i] * mass[j]) / math.dist(position[i], position[j])
            for i in range(3)
            for j in range(i)
        )
        assert kinetic < phi
        depth.append(phi / (phi - kinetic))
        rows.append(dimensionless_features(position, velocity, mass, 0.0))
    order = torch.tensor(depth).argsort()
    steps = torch.stack(rows)[order].diff(dim=0)
    assert bool(((steps > 0).all(0) | (steps < 0).all(0)).any())


@pytest.mark.parametrize("radius", [0.12, 0.5, 1.0, 1.7])
def test_the_time_scale_of_two_bodies_is_the_free_fall_time_times_the_depth(radius: float) -> None:
    state = two_bodies(radius, 0.9)
    free_fall = math.sqrt(radius**3 / 2)
    assert float(free_fall_time(state[0], state[2], 0.0)) == pytest.approx(free_fall)
    depth = 0.5 / (1 / radius)
    found = math.exp(float(dimensionless_features(*state, 0.0)[-1]))
    assert found == pytest.approx(free_fall * depth ** (1 / 3), rel=1e-6)


def test_the_time_scale_follows_the_closest_pair() -> None:
    position = torch.tensor([[0.0, 0.0], [1e-3, 0.0], [5.0, 0.0]], dtype=torch.float64)
    velocity = torch.tensor([[0.0, -0.3], [0.0, 0.3], [0.0, 0.0]], dtype=torch.float64)
    mass = torch.ones(3, dtype=torch.float64)
    wide = dimensionless_features(position, velocity, mass, 0.0)[-1]
    position[2, 0] = 6.0
    assert float(dimensionless_features(position, velocity, mass, 0.0)[-1] - wide) < 1e-3


def singular_states() -> dict[str, State]:
    one = torch.ones(3, dtype=torch.float64)
    zero = torch.zeros(3, 2, dtype=torch.float64)
    apart = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    touching = torch.tensor([[0.0, 0], [0, 0], [0, 1]], dtype=torch.float64)
    unbound = torch.tensor([[0.0, 0], [1e150, 0], [0, 1]], dtype=torch.float64)
    return {
        "all at one point and at rest": (zero, zero, one),
        "all at one point and moving": (zero, apart, one),
        "two at one point": (touching, apart, one),
        "nearly at one point": (1e-200 * apart, apart, one),
        "far apart": (1e100 * apart, zero, one),
        "at rest": (apart, zero, one),
        "very fast": (apart, unbound, one),
        "massless almost": (apart, zero, 1e-300 * one),
        "zero total energy": (
            torch.tensor([[0.0, 0], [1, 0], [1e9, 0]], dtype=torch.float64),
            torch.tensor([[0.0, 1], [0, -1], [0, 0]], dtype=torch.float64),
            torch.tensor([1, 1, 1e-300], dtype=torch.float64),
        ),
    }


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("feature_type", ["basic", "rich", "delta_mag", "dimensionless"])
@pytest.mark.parametrize("name", singular_states())
def test_the_network_input_is_finite_for(name: str, feature_type: str, dtype: str) -> None:
    fields = {"feature_type": feature_type, "dtype": dtype, "history_len": 2}
    if feature_type != "dimensionless":
        fields["dt_head"] = "softplus"
    adapter = ModelAdapter(Config.model_validate(fields))
    position, velocity, mass = (part.to(getattr(torch, dtype)) for part in singular_states()[name])
    particle = ParticleTorch.from_tensors(mass, position, velocity)
    for _ in range(3):
        features = adapter.build_feature_tensor(particle, history_buffer=adapter.history_buffer)
        assert torch.isfinite(features).all()
        if adapter.history_buffer is not None:
            adapter.history_buffer.push(particle)


@pytest.mark.parametrize("feature_type", ["basic", "rich"])
def test_manual_scales_divide_lengths_speeds_and_accelerations(feature_type: str) -> None:
    scales = {"norm_L0": 2.0, "norm_V0": 3.0, "norm_A0": 5.0, "norm_T0": 7.0}
    config = Config.model_validate(
        {"feature_type": feature_type, "dt_head": "softplus", "normalize_inputs": True}
        | {"norm_mode": "manual", **scales}
    )
    position, velocity, mass = random_state()
    features = ModelAdapter(config).build_feature_tensor(
        ParticleTorch.from_tensors(mass, position, velocity)
    )
    plain = system_features(position, velocity, mass, 0.0, feature_type)
    per_group = {"basic": (3, 2, 2, 2, 2), "rich": (7, 4, 4, 4, 3)}[feature_type]
    divisors = [d for d, n in zip((1, 2, 3, 5, 2), per_group, strict=True) for _ in range(n)]
    divisors += [2.0] * (len(plain) - len(divisors))  # softening is a length
    torch.testing.assert_close(features * torch.tensor(divisors).double(), plain)


def test_automatic_scales_are_those_of_the_first_state() -> None:
    config = Config(feature_type="basic", dt_head="softplus", normalize_inputs=True)
    state, other = random_state(), random_state(seed=1)
    adapter = ModelAdapter(config)
    s = statistics_of(state, 0.0)
    adapter.fit_scales(ParticleTorch.from_tensors(state[2], state[0], state[1]))
    adapter.fit_scales(ParticleTorch.from_tensors(other[2], other[0], other[1]))
    found = adapter.build_feature_tensor(ParticleTorch.from_tensors(other[2], other[0], other[1]))
    plain = system_features(*other, 0.0, "basic")
    length, speed, acceleration = mean(s["distance"]), rms(s["speed"]), rms(s["acceleration"])
    divisors = [1.0] * 3 + [length] * 2 + [speed] * 2 + [acceleration] * 2 + [length] * 2
    torch.testing.assert_close(found * torch.tensor(divisors).double(), plain)


@pytest.mark.parametrize("shape", [(700, 3), (2, 600, 2)])
def test_the_free_fall_time_of_many_particles_is_the_least_of_all_pairs(
    shape: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(3)
    position = torch.randn(shape, generator=generator, dtype=torch.float64)
    mass = torch.rand(shape[:-1], generator=generator, dtype=torch.float64)
    distance = torch.cdist(position, position)
    pairs = (distance**3 / (mass.unsqueeze(-1) + mass.unsqueeze(-2))).sqrt()
    pairs.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    found = free_fall_time(position, mass, 0.0)
    torch.testing.assert_close(found, pairs.amin((-2, -1)), rtol=1e-6, atol=0)
