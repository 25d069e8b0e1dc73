"""Rows → what the API answers. Queries that only read."""
