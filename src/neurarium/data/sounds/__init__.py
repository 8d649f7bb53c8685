"""Sounds: recordings by class, spoken sets, and how files become samples."""
