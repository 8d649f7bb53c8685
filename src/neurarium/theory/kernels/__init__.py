"""Kernels of infinitely wide networks, for any activation and any depth, and what they tend to."""
