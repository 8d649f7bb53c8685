"""Losses for classes of very unequal size."""
