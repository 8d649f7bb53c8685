"""How complex a sequence is, and sequences of known complexity."""
