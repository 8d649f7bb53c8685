"""Smaller networks: pruning, distillation, sorted and sparse ones."""
