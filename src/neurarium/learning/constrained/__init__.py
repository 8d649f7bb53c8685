"""Training under constraints on the parameters."""
