"""Networks as short messages: training in a random subspace, a codebook, and an entropy coder."""
