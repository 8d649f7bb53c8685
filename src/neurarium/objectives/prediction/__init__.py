"""Losses of the predictions alone."""
