"""Backpropagation in a few parallel rounds along a residual path."""
