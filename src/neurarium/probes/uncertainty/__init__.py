"""How sure a model is of its predictions, and why not."""
