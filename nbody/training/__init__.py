"""The inside of both parts of an epoch."""
