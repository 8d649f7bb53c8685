"""What networks can compute at all: machines, and networks compiled from them."""
