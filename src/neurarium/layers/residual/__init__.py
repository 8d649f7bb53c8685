"""Residual blocks and their scaled branches."""
