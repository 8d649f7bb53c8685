"""Tasks whose answers are functions of functions."""
