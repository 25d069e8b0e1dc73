"""Trained steppers and our integrators in REBOUND: `from nbody.rebound import use`."""

from nbody.rebound.plugin import register, use

__all__ = ["register", "use"]
