"""Equations of motion of representations in training."""
