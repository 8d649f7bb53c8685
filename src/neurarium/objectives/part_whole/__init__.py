"""Wholes and their parts: views of both, and objectives that make their embeddings add up."""
