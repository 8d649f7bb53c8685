"""Penalties on the edges of Kolmogorov-Arnold networks."""
