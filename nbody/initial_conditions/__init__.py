"""The systems to train on and to simulate: named, random, from a file, or in the config."""

from nbody.initial_conditions.from_config import initial_particle

__all__ = ["initial_particle"]
