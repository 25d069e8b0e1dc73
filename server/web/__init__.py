"""The HTTP side: the application, its layers, how it listens, its routes."""
