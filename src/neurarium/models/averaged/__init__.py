"""Networks made invariant or equivariant by averaging."""
