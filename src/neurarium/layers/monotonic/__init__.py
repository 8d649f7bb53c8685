"""Layers whose outputs never fall when chosen inputs rise."""
