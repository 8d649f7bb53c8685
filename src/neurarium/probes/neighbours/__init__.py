"""Nearest neighbours, exactly, and how well they classify."""
