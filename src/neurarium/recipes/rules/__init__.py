"""Learning rules in the place of backpropagation."""
