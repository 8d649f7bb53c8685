"""Remembered embeddings, on disk or in memory, and their neighbours."""
