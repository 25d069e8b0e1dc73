"""What a run is, before it runs. Torch-free."""

from nbody.config.config import Config

__all__ = ["Config"]
