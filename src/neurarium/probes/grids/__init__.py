"""A network's output on grids and planes of its input space."""
