"""Frozen features of networks and of recipes that need none."""
