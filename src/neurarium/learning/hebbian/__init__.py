"""Hebbian learning, and the associative memories that it makes."""
