"""Rules that send the output's error back by other ways than the transposed weights."""
