"""Which representations of a group a network uses."""
