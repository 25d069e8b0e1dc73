"""Trained steppers and their checkpoints, as jobs and users know them."""
