"""How much each edge and node of a Kolmogorov-Arnold network matters."""
