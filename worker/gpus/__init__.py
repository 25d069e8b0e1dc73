"""The host's NVIDIA GPUs: which there are, how they are doing, and whether jobs can use them."""
