"""Probabilistic programs as torch modules: random variables, what approximates them, and networks made Bayesian."""
