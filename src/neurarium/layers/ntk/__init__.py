"""Layers whose width can go to infinity while training stays the same."""
