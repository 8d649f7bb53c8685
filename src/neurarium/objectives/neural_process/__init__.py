"""Losses of neural processes."""
