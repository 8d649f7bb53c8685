"""Networks over the weights of networks."""
