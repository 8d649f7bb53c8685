"""Numbers of a few bits: in weights, and in what is kept for the backward pass."""
