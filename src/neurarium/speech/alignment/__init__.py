"""Alignments of a target along the frames: graphs, sums and best paths."""
