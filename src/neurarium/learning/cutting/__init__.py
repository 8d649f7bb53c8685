"""Cutting a network at its blocks, for rules that give each block a loss or a gradient of its own."""
