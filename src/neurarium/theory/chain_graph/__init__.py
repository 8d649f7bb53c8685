"""Networks as chain graphs: layers of random variables, and ways to infer what the last one is."""
