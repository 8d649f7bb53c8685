"""Losses of networks that map functions to functions."""
