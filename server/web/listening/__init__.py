"""How the server listens."""
