"""Penalties and bounds on parameters."""
