"""The systems to train on and to simulate: named, random, from a file, or in the config.

Inside, masses are gravitational parameters G m: everything is computed with G = 1. Legend: B
systems, N particles, D dimensions. Random draws come from a generator of their
own, seeded from the run's seed and the epoch, so that a resumed run draws what the first would
have.
"""

import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.config.particle_file import read_particles
from nbody.config.plausibility import doubts
from nbody.config.systems import SYSTEMS
from nbody.confined_path import PathEscapes, confined
from nbody.device import resolve_device, resolve_dtype
from nbody.errors import InvalidInitialConditions
from nbody.gravity.external_field import TidalField, field_from_config, perturbers
from nbody.gravity.invariants import centre_of_mass
from nbody.initial_conditions.conics import farthest_anomaly, mean_anomaly
from nbody.initial_conditions.draws import draw_elements, draw_masses, draw_thresholds
from nbody.initial_conditions.few_body import hierarchical_triples, near_figure_eight, random_bound
from nbody.initial_conditions.hard_systems import with_hard_systems
from nbody.initial_conditions.kepler import kepler_orbits, pad_to, period_of_pair
from nbody.initial_conditions.named_systems import figure_eight, lagrange_triangle, pythagorean
from nbody.initial_conditions.planetary import kozai_triples, planetary_systems, resonant_chains
from nbody.initial_conditions.plummer import plummer_spheres
from nbody.initial_conditions.scattering import binary_single
from nbody.integrators.each_body import UNEQUAL, has_light_bodies
from nbody.integrators.named import INTEGRATORS
from nbody.integrators.states import Gate
from nbody.particle import Centre, ParticleTorch, make_particle


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
    if drawn is not None:
        drawn = with_hard_systems(drawn, config, generator)
    particle = _prepare(_fixed(config, data_folder) if drawn is None else drawn, config)
    threshold = draw_thresholds(config, particle.position.shape[:-2], generator)
    return particle.replace(
        energy_threshold=None if threshold is None else threshold.to(particle.position)
    )


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
        batch = plummer_spheres(
            systems, number, generator, config.mass_ratio_min, config.virial_ratio
        )
    elif kind == "figure_eight_family":
        batch = near_figure_eight(systems, config.dim, config.perturbation, generator)
    elif kind == "random_bound":
        masses = draw_masses(config, systems, generator)
        batch = random_bound(
            systems, number, config.dim, masses, config.pos_scale, generator, config.softening
        )
    elif SYSTEMS[kind].drawn:
        batch = _around_an_orbit(config, generator)
    else:
        return None
    return batch if systems > 1 else batch.select(0)


def _around_an_orbit(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Populations that are built on an inner orbit, whose axis is uniform in the config's range."""
    kind, systems, dim = config.initial_conditions, config.num_systems, config.dim
    mass = config.newton * config.mass
    inside = {"hierarchical_triple", "binary_single"}
    masses = draw_masses(config, systems, generator) if kind in inside else None
    share = torch.rand(systems, generator=generator, dtype=torch.float64)
    axis = config.a_min + (config.a_max - config.a_min) * share
    if masses is not None and kind == "hierarchical_triple":
        return hierarchical_triples(dim, masses, axis, generator)
    if masses is not None:
        return binary_single(dim, masses, axis, config.vel_scale, generator)
    if kind == "kozai_triple":
        return kozai_triples(systems, mass, axis, generator)
    if kind == "resonant_chain":
        return resonant_chains(systems, dim, mass, axis, generator)
    number = config.num_particles
    return planetary_systems(systems, number, dim, mass, axis, generator)


def kepler_ensemble(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Orbits with e and a uniform in the config's ranges, phase, and orientation in angle."""
    orbits = draw_elements(config, config.num_orbits, generator)
    mass = draw_masses(config, config.num_orbits, generator)
    return kepler_orbits(
        orbits.eccentricity,
        orbits.semi_major,
        orbits.mean_anomaly(),
        mass,
        config.dim,
        orbits.pericentre_angle,
    )


def random_systems(config: Config, generator: torch.Generator) -> ParticleTorch:
    """Gaussian positions and velocities (B, N, D)."""
    shape = (2, config.systems, config.num_particles, config.dim)
    position, velocity = torch.randn(shape, generator=generator, dtype=torch.float64)
    mass = config.newton * config.mass
    return ParticleTorch(mass, config.pos_scale * position, config.vel_scale * velocity)


def _fixed(config: Config, data_folder: Path | None) -> ParticleTorch:
    kind = config.initial_conditions
    if kind == "kepler":
        e, size = (
            torch.tensor([value], dtype=torch.float64)
            for value in (config.eccentricity, config.semi_major)
        )
        start = torch.where(e < 1, 0.0, mean_anomaly(-farthest_anomaly(e), e))
        mass = config.newton * config.mass
        return kepler_orbits(e, size, start, mass=mass, dim=config.dim).select(0)
    if kind in {"file", "inline"}:
        return _from_rows(config, data_folder)
    if kind == "lagrange_triangle":
        return pad_to(lagrange_triangle(config.newton * config.mass), config.dim)
    return pad_to(figure_eight() if kind == "figure_eight" else pythagorean(), config.dim)


def _from_rows(config: Config, data_folder: Path | None) -> ParticleTorch:
    rows = config.particles
    if rows is None:
        try:
            path = confined(data_folder or Path("data"), config.ic_path or "")
        except PathEscapes as error:
            raise InvalidInitialConditions(f"ic_path: {error}") from None
        rows = read_particles(path, config.newton)
        for doubt in doubts(rows, config.newton, config.dt):
            warnings.warn(f"{path.name}: {doubt}", stacklevel=2)
    particle = make_particle(rows)
    particle = particle.replace(mass=config.newton * particle.mass)
    if not bool(particle.mass.any()):
        raise InvalidInitialConditions("all particles are massless: nothing pulls them")
    places = len(torch.unique(particle.position, dim=0))
    if places < len(particle.position) and not config.softening:
        raise InvalidInitialConditions("two particles are at one place; move one, or set softening")
    return particle


def _prepare(particle: ParticleTorch, config: Config) -> ParticleTorch:
    """Centre of mass at rest at the origin, on the config's device and type, with its field."""
    device, dtype, mass = resolve_device(config), resolve_dtype(config), particle.mass
    field = field_from_config(config)
    position, velocity, period = particle.position, particle.velocity, particle.period
    centre: Centre | None = None
    for perturber in perturbers(field):
        if bool((perturber.origin_to_perturber(position) == position).all(-1).any()):
            raise InvalidInitialConditions("a particle is at the place of an external mass")
    if field is None:
        if period is None and not config.softening:
            period = period_of_pair(particle)
        place, drift = (centre_of_mass(values, mass) for values in (position, velocity))
        position, velocity = position - place, velocity - drift
        if config.initial_conditions in {"file", "inline"}:
            centre = Centre(place.to(device, dtype), drift.to(device, dtype))
    return ParticleTorch(
        mass.to(device, dtype),
        position.to(device, dtype),
        velocity.to(device, dtype),
        softening=config.softening,
        period=None if period is None else period.to(device, dtype),
        external_field=field,
        gate=gate_of(config, mass, field),
        integrator=INTEGRATORS[config.integrator],
        centre=centre,
    )


def gate_of(config: Config, mass: Float[Tensor, "*B N"], field: TidalField | None) -> Gate:
    """The gate that a config names, or that masses (..., N) of a system ask for."""
    if config.gate != "auto":
        return config.gate
    real = torch.ones_like(mass, dtype=torch.bool)
    light = bool(has_light_bodies(mass, real, field).any())
    several = mass.shape[-1] > 2 or field is not None
    drawn_light = config.is_drawn and config.mass_ratio_min < UNEQUAL  # in one draw or another
    return "each" if light or (several and drawn_light) else "energy"
