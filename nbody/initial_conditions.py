"""The systems to train on and to simulate: named, random, from a file, or in the config.

G = 1. Legend: B systems, N particles, D dimensions. Random draws come from a generator of their
own, seeded from the run's seed and the epoch, so that a resumed run draws what the first would
have.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from nbody.config import Config
from nbody.device import resolve_device, resolve_dtype
from nbody.errors import InvalidInitialConditions
from nbody.external_field import field_from_config
from nbody.gravity import centre_of_mass, energies
from nbody.particle import ParticleTorch, make_particle
from nbody.particle_file import read_particles

FIGURE_EIGHT_PERIOD = 6.32591398  # Chenciner & Montgomery (2000)
KEPLER_ITERATIONS = 60
PLUMMER_SCALE = 3 * math.pi / 16  # a in Hénon units, where G = M = 1 and E = -1/4


def initial_particle(
    config: Config, *, seed: int = 0, epoch: int = 0, data_folder: Path | None = None
) -> ParticleTorch:
    """The system or the batch that a config names, centre of mass at rest.

    Args:
        config: its `initial_conditions` and their fields.
        seed, epoch: of the random draws; epoch matters to populations that are drawn afresh.
        data_folder: where `ic_path` is looked for.

    Raises:
        InvalidInitialConditions: a file is missing, too large or not a table of particles.
    """
    generator = torch.Generator().manual_seed((seed + epoch * 0x9E3779B97F4A7C15) % 2**63)
    kind = config.initial_conditions
    if kind == "kepler":
        particle = kepler_orbits(
            *(
                torch.tensor([v], dtype=torch.float64)
                for v in (config.eccentricity, config.semi_major)
            ),
            mean_anomaly=torch.zeros(1, dtype=torch.float64),
            mass=config.mass,
            dim=config.dim,
        ).select(0)
    elif kind == "kepler_ensemble":
        particle = kepler_ensemble(config, config.num_orbits, generator)
    elif kind == "random":
        particle = random_system(config, generator)
    elif kind == "plummer":
        particle = plummer_sphere(config.num_particles, generator)
    elif kind == "lagrange_triangle":
        particle = _padded(lagrange_triangle(config.mass), config.dim)
    elif kind in {"figure_eight", "pythagorean"}:
        named = figure_eight() if kind == "figure_eight" else pythagorean()
        particle = _padded(named, config.dim)
    else:
        particle = _from_rows(config, data_folder)
    return _prepared(particle, config)


def kepler_orbits(
    eccentricity: Tensor,
    semi_major: Tensor,
    mean_anomaly: Tensor,
    mass: float,
    dim: int,
    angle: Tensor | None = None,
) -> ParticleTorch:
    """Two equal masses on bound Kepler orbits, (B, 2, D).

    Args:
        eccentricity, semi_major, mean_anomaly: (B,) each; mean anomaly 0 is pericentre.
        mass: of each body.
        dim: 2, or 3 with the orbit in the plane z = 0.
        angle: (B,) argument of pericentre.
    """
    anomaly = eccentric_anomaly(mean_anomaly, eccentricity)  # E, (B,)
    total = 2 * mass
    axis_ratio = (1 - eccentricity.square()).sqrt()
    motion = (total / semi_major**3).sqrt()  # n
    x, y = anomaly.cos() - eccentricity, axis_ratio * anomaly.sin()
    rate = motion / (1 - eccentricity * anomaly.cos())  # dE/dt
    relative = semi_major.unsqueeze(1) * torch.stack((x, y), dim=1)  # (B, 2)
    velocity = (semi_major * rate).unsqueeze(1) * torch.stack(
        (-anomaly.sin(), axis_ratio * anomaly.cos()), dim=1
    )
    if angle is not None:
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack((cos, -sin, sin, cos), dim=1).reshape(-1, 2, 2)
        relative = (rotation @ relative.unsqueeze(-1)).squeeze(-1)
        velocity = (rotation @ velocity.unsqueeze(-1)).squeeze(-1)
    bodies = torch.tensor([-0.5, 0.5], dtype=relative.dtype).reshape(1, 2, 1)
    particle = ParticleTorch(
        torch.full((len(relative), 2), mass, dtype=relative.dtype),
        bodies * relative.unsqueeze(1),
        bodies * velocity.unsqueeze(1),
    )
    particle.period = 2 * math.pi / motion
    return _padded(particle, dim)


def eccentric_anomaly(mean_anomaly: Tensor, eccentricity: Tensor) -> Tensor:
    """E of Kepler's equation E - e sin E = M, by bisection on [M - e, M + e] and Newton steps."""
    low, high = mean_anomaly - eccentricity, mean_anomaly + eccentricity
    for _ in range(KEPLER_ITERATIONS):
        middle = 0.5 * (low + high)
        above = middle - eccentricity * middle.sin() > mean_anomaly
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    anomaly = 0.5 * (low + high)
    for _ in range(2):
        residual = anomaly - eccentricity * anomaly.sin() - mean_anomaly
        anomaly = anomaly - residual / (1 - eccentricity * anomaly.cos()).clamp_min(1e-8)
    return anomaly


def kepler_ensemble(config: Config, number: int, generator: torch.Generator) -> ParticleTorch:
    """Orbits with e and a uniform in the config's ranges, phase and orientation in angle."""
    draw = torch.rand(4, number, generator=generator, dtype=torch.float64)
    eccentricity = config.e_min + (config.e_max - config.e_min) * draw[0]
    semi_major = config.a_min + (config.a_max - config.a_min) * draw[1]
    phase, angle = 2 * math.pi * draw[2], 2 * math.pi * draw[3]
    return kepler_orbits(eccentricity, semi_major, phase, config.mass, config.dim, angle)


def random_system(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Gaussian positions and velocities, centre of mass at rest at the origin."""
    shape = (2, config.num_particles, config.dim)
    position, velocity = torch.randn(shape, generator=generator, dtype=torch.float64)
    return ParticleTorch(config.mass, config.pos_scale * position, config.vel_scale * velocity)


def figure_eight() -> ParticleTorch:
    """Three equal masses chasing each other on one curve (Chenciner & Montgomery 2000)."""
    first, speed = (0.97000436, -0.24308753), (-0.93240737, -0.86473146)
    half = (-speed[0] / 2, -speed[1] / 2)
    rows = [
        [1.0, *first, *half],
        [1.0, -first[0], -first[1], *half],
        [1.0, 0.0, 0.0, *speed],
    ]
    particle = make_particle(rows)
    particle.period = torch.tensor(FIGURE_EIGHT_PERIOD, dtype=torch.float64)
    return particle


def pythagorean() -> ParticleTorch:
    """Masses 3, 4, 5 at rest at the corners of a 3-4-5 triangle (Burrau 1913)."""
    return make_particle(
        [[3.0, 1.0, 3.0, 0.0, 0.0], [4.0, -2.0, -1.0, 0.0, 0.0], [5.0, 1.0, -1.0, 0.0, 0.0]]
    )


def lagrange_triangle(mass: float = 1.0, side: float = 1.0) -> ParticleTorch:
    """Three equal masses circling on an equilateral triangle, ω² L³ = 3 G m."""
    rate, radius = math.sqrt(3 * mass / side**3), side / math.sqrt(3)
    rows: list[list[float]] = []
    for corner in range(3):
        angle = 2 * math.pi * corner / 3
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        rows.append([mass, x, y, -rate * y, rate * x])
    particle = make_particle(rows)
    particle.period = torch.tensor(2 * math.pi / rate, dtype=torch.float64)
    return particle


def plummer_sphere(number: int, generator: torch.Generator) -> ParticleTorch:
    """N equal masses of a Plummer (1911) sphere in Hénon units: M = 1, E = -1/4, virial ratio 1/2.

    Radii and speeds after Aarseth, Hénon & Wielen (1974); then scaled, so that energy and virial
    ratio hold for the drawn system and not only on average.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def isotropic(length: Tensor) -> Tensor:
        direction = torch.randn(number, 3, generator=generator, dtype=torch.float64)
        return length.unsqueeze(1) * torch.nn.functional.normalize(direction, dim=1)

    mass_fraction = 0.001 + 0.998 * uniform(number)  # leaves out the rare very distant particle
    radius = (mass_fraction ** (-2 / 3) - 1).rsqrt()  # in units of a
    q = torch.zeros(number, dtype=torch.float64)  # speed over escape speed, density q²(1 - q²)^3.5
    pending = torch.arange(number)
    while len(pending):
        trial, height = uniform(2, len(pending))
        good = 0.1 * height < trial.square() * (1 - trial.square()) ** 3.5
        q[pending[good]] = trial[good]
        pending = pending[~good]
    escape = math.sqrt(2) * (1 + radius.square()) ** -0.25
    mass = torch.full((number,), 1 / number, dtype=torch.float64)
    position = PLUMMER_SCALE * isotropic(radius)
    velocity = isotropic(q * escape) / math.sqrt(PLUMMER_SCALE)
    position = position - centre_of_mass(position, mass)
    velocity = velocity - centre_of_mass(velocity, mass)
    kinetic, potential = energies(position, velocity, mass)
    position = position * (potential / -0.5)
    velocity = velocity * (0.25 / kinetic).sqrt()
    return ParticleTorch(mass, position, velocity)


def _from_rows(config: Config, data_folder: Path | None) -> ParticleTorch:
    rows = config.particles
    if rows is None:
        folder = (data_folder or Path("data")).resolve()
        path = (folder / (config.ic_path or "")).resolve()
        if not path.is_relative_to(folder):
            raise InvalidInitialConditions("ic_path leads out of the data folder")
        rows = read_particles(path)
    return make_particle(rows)


def _padded(particle: ParticleTorch, dim: int) -> ParticleTorch:
    """A planar system in the plane z = 0 where three dimensions are asked for."""
    missing = dim - particle.position.shape[-1]
    if missing <= 0:
        return particle
    position, velocity = (
        torch.nn.functional.pad(t, (0, missing)) for t in (particle.position, particle.velocity)
    )
    padded = ParticleTorch(particle.mass, position, velocity)
    padded.period = particle.period
    return padded


def _prepared(particle: ParticleTorch, config: Config) -> ParticleTorch:
    """Centre of mass at rest at the origin, on the config's device and type, with its field."""
    device, dtype, mass = resolve_device(config), resolve_dtype(config), particle.mass
    field = field_from_config(config)
    position, velocity = particle.position, particle.velocity
    if field is None:
        position = position - centre_of_mass(position, mass)
        velocity = velocity - centre_of_mass(velocity, mass)
    prepared = ParticleTorch(
        mass.to(device, dtype),
        position.to(device, dtype),
        velocity.to(device, dtype),
        softening=config.softening,
    )
    prepared.period = None if particle.period is None else particle.period.to(device, dtype)
    prepared.external_field = field
    return prepared
