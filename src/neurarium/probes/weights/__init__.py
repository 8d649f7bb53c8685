"""The weights themselves: their bits, their graph."""
