"""Penalties on the features that enter a classifier, and the hook that takes them there."""
