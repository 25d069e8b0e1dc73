"""The plan of the first ten minutes on a GPU: `python -m tests.gpu.first_run OUT`."""
