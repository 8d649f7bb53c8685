"""Inference of random variables: Hamiltonian Monte Carlo, the no-U-turn sampler, Laplace's approximation."""
