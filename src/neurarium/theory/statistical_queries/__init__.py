"""How many correlational queries a family of targets needs, and what a gradient sees of it."""
