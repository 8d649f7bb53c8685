"""How well an input is made again, missing entries left out."""
