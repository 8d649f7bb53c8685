"""Networks with fewer connections, found by training."""
