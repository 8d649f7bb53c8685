"""Training after training for classes of very unequal size."""
