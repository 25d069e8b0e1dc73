"""Steps, and how large they may be: the integrator, its error series, the gate, the oracle."""
