"""Finite groups, their representations, and tasks made of them."""
