"""Piecewise-linear networks: their affine maps, the cells on which these hold, and the tree that they are."""
