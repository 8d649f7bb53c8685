"""Strategies that keep some old examples."""
