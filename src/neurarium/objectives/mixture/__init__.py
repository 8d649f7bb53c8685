"""Losses that keep all experts of a mixture in use."""
