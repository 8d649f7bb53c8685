"""Searching for a smaller architecture."""
