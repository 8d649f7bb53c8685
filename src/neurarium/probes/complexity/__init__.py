"""How complex the function is that a network computes, trained or with random weights."""
