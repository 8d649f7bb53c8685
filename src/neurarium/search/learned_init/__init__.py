"""Initial weights that are searched for: from them a few steps fit a new signal or task."""
