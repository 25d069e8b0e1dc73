"""Integrate with a stepping rule, and what that costs."""

from nbody.simulation.finished import Simulation
from nbody.simulation.run import simulate

__all__ = ["Simulation", "simulate"]
