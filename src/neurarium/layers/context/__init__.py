"""Layers that carry a target and examples side by side."""
