"""What a sensor sees of a field: points, pixels, projections, rays."""
