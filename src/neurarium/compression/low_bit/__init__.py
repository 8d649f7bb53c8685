"""Fewer bits: in activations kept, and data in spare bits."""
