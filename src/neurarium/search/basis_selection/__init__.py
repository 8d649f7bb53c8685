"""Choosing a basis for every node of Kolmogorov-Arnold layers."""
