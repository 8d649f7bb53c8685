"""Layers that keep, multiply and train a part of their connections."""
