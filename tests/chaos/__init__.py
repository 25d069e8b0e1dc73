"""Proofs that nothing is lost, doubled or let in, each with the protection off as its control."""
