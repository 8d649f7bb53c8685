"""Several networks, one after the other."""
