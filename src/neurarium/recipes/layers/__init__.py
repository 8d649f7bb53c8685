"""Layers swapped in, and whole networks of them."""
