"""Which part of an input decided, in networks that end in an average and a linear layer."""
