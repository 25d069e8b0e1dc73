"""Integrate with a stepping rule, and what that costs."""

from nbody.simulation.run import Simulation, simulate

__all__ = ["Simulation", "simulate"]
