"""Searches for the best fields of a config."""
