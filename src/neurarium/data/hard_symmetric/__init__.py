"""Families of symmetric targets that are mutually uncorrelated, and so hard to learn by gradients."""
