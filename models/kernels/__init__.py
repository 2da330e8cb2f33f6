"""Triton's kernels, and whether they can be built."""
