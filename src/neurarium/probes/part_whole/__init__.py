"""Whether embeddings of parts add up to their wholes, and tell places apart."""
