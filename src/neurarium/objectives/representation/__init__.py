"""Losses on what inner layers represent."""
