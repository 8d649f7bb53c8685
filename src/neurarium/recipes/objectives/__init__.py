"""Other losses and regularizers."""
