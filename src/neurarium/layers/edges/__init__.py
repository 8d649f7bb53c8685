"""Layers whose weights belong to pairs of nodes."""
