"""Weights of networks as data: trajectories of training, and their scaling."""
