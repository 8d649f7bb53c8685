"""Streams of tasks, and training sets whose classes are uneven or fall into groups."""
