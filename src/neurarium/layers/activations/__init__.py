"""Units whose activation function is learned."""
