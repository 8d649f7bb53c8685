"""Kolmogorov-Arnold layers: a learnable function of one variable on every edge, sums on the nodes."""
