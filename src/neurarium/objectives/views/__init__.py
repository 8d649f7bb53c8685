"""Several views of one example, and objectives that are made of them."""
