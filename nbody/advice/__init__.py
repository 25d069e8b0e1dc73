"""Which integrator, with which step, for a simulation that somebody brings: tried, not guessed."""
