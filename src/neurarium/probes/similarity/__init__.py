"""How alike two networks, or two representations, are."""
