"""Denoisers of labels, and their noise schedules."""
