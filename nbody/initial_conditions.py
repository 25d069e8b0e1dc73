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
from nbody.few_body import hierarchical_triples, log_uniform, near_figure_eight, random_bound
from nbody.gravity import centre_of_mass
from nbody.kepler import kepler_orbits, padded
from nbody.named_systems import figure_eight, lagrange_triangle, pythagorean
from nbody.particle import ParticleTorch, make_particle
from nbody.particle_file import read_particles
from nbody.plummer import plummer_spheres


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
    drawn = draw_population(config, generator)
    particle = _prepared(_fixed(config, data_folder) if drawn is None else drawn, config)
    if config.energy_threshold_max is not None:
        ratio = config.energy_threshold_max / config.energy_threshold
        shape = particle.position.shape[:-2]
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        threshold = config.energy_threshold * ratio**share
        particle.energy_threshold = threshold.to(particle.position)
    return particle


def draw_population(config: Config, generator: torch.Generator) -> ParticleTorch | None:
    """A random draw of `config.systems` systems; None where the initial conditions are fixed.

    Populations that can only be a batch give (B, N, D); others one system (N, D) where B is 1.
    """
    kind, systems, number = config.initial_conditions, config.num_systems, config.num_particles
    if kind == "kepler_ensemble":
        return kepler_ensemble(config, generator)
    if kind == "random":
        batch = random_systems(config, generator)
    elif kind == "plummer":
        batch = plummer_spheres(systems, number, generator)
    elif kind == "figure_eight_family":
        batch = near_figure_eight(systems, config.dim, config.perturbation, generator)
    elif kind == "random_bound":
        masses = _masses(config, generator)
        batch = random_bound(
            systems, number, config.dim, masses, config.pos_scale, generator, config.softening
        )
    elif kind == "hierarchical_triple":
        masses = _masses(config, generator)
        a = torch.rand(systems, generator=generator, dtype=torch.float64)
        semi_major = config.a_min + (config.a_max - config.a_min) * a
        batch = hierarchical_triples(config.dim, masses, semi_major, generator)
    else:
        return None
    return batch if systems > 1 else batch.select(0)


def kepler_ensemble(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Orbits with e and a uniform in the config's ranges, phase and orientation in angle."""
    number = config.num_orbits
    draw = torch.rand(4, number, generator=generator, dtype=torch.float64)
    eccentricity = config.e_min + (config.e_max - config.e_min) * draw[0]
    semi_major = config.a_min + (config.a_max - config.a_min) * draw[1]
    phase, angle = 2 * math.pi * draw[2], 2 * math.pi * draw[3]
    mass = _masses(config, generator)
    return kepler_orbits(eccentricity, semi_major, phase, mass, config.dim, angle)


def random_systems(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Gaussian positions and velocities (B, N, D)."""
    shape = (2, config.systems, config.num_particles, config.dim)
    position, velocity = torch.randn(shape, generator=generator, dtype=torch.float64)
    return ParticleTorch(config.mass, config.pos_scale * position, config.vel_scale * velocity)


def _masses(config: Config, generator: torch.Generator) -> Tensor:
    """Masses (B, N): `mass` of the first body, the others down to `mass_ratio_min` of it."""
    shape = (config.systems, config.num_particles)
    mass = torch.full(shape, config.mass, dtype=torch.float64)
    if config.mass_ratio_min < 1:
        others = (shape[0], shape[1] - 1)
        mass[:, 1:] *= log_uniform(config.mass_ratio_min, *others, generator=generator)
    return mass


def _fixed(config: Config, data_folder: Path | None) -> ParticleTorch:
    kind = config.initial_conditions
    if kind == "kepler":
        shape = (config.eccentricity, config.semi_major, 0.0)
        numbers = (torch.tensor([value], dtype=torch.float64) for value in shape)
        return kepler_orbits(*numbers, mass=config.mass, dim=config.dim).select(0)
    if kind in {"file", "inline"}:
        return _from_rows(config, data_folder)
    if kind == "lagrange_triangle":
        return padded(lagrange_triangle(config.mass), config.dim)
    return padded(figure_eight() if kind == "figure_eight" else pythagorean(), config.dim)


def _from_rows(config: Config, data_folder: Path | None) -> ParticleTorch:
    rows = config.particles
    if rows is None:
        folder = (data_folder or Path("data")).resolve()
        path = (folder / (config.ic_path or "")).resolve()
        if not path.is_relative_to(folder):
            raise InvalidInitialConditions("ic_path leads out of the data folder")
        rows = read_particles(path)
    particle = make_particle(rows)
    places = len(torch.unique(particle.position, dim=0))
    if places < len(particle.position) and not config.softening:
        raise InvalidInitialConditions("two particles are at one place; move one, or set softening")
    return particle


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
