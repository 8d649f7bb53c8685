"""Changing a network that exists: units and blocks taken out."""
