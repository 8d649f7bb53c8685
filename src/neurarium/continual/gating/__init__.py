"""Strategies that give each context a part of the network."""
