"""Homology of decision regions and of point clouds."""
