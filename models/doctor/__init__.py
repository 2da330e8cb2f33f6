"""Checks of what models need: driver, GPU, host, kernels, checkpoints and placement."""
