"""`orrery autoscale`."""
