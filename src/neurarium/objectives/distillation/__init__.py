"""Learning from another network's predictions."""
