"""Attention: how it weighs what it sees, and how it knows where that stands."""
