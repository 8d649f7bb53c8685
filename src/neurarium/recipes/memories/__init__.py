"""Memories and class means on frozen features."""
